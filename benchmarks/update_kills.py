"""What an update leaves when it is killed at any of its system calls, or the power is cut.

    python benchmarks/update_kills.py [--kills N] [--cuts 200] [--json FILE]     (cuts: root, loop devices)

A process updates a bundle and an agent package from a signed repository (metadata, download, slot, trial,
commit), rolls both back and updates them to a third version. strace ends it by SIGKILL at the first of its
system calls, in another run at the second, and so on (``positions``), or at N of them spread evenly. After
each kill what both slots use must be whole, byte for byte, as it was signed (``invalid``); and the update,
tried again, must succeed (``stuck``). For the cuts the slots lie on an ext4 in an image file, which is copied
between two system calls while one update follows the other; mounted as after the cut, what was committed
before must be in use (``forgotten``), and whole. Ends with exit code 1 if any of that is not so.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
from power_cuts import IMAGE_MB, cut, mounted, unclean

from edge.bundle.archive import open_bundle, write_bundle
from edge.keys.release import ReleaseKeys
from edge.keys.repository import described, publish_files
from edge.update.client import Trust
from edge.update.launch import State, version_of
from edge.update.package import PROGRAM, pack_agent
from edge.update.release import Device, choose
from edge.update.slots import Slot

SHIPPED = next((Path(__file__).parents[1] / "trainer").rglob("*.swb"))
TARGET = "raspberry-pi-5"
AGENT = "agent"
WRONG = ("invalid", "stuck", "forgotten", "unclean_filesystems")
OLD, NEW, NEWEST = "1.0.0", "1.1.0", "1.2.0"


def headquarters(folder: Path) -> None:
    """Keys, and a repository with the versions of a bundle and of an agent."""
    keys = ReleaseKeys.create(folder / "keys", None, 3, 2)
    files = []
    shipped = open_bundle(SHIPPED)
    members = {name: shipped.member(name) for name in shipped.names if name != "manifest.json"}
    for version in (OLD, NEW, NEWEST):
        manifest = shipped.manifest.model_copy(update={"name": "chest", "version": version})
        files.append(write_bundle(folder / f"chest-{version}.swb", manifest, members))
        tree = folder / f"tree-{version}"
        (tree / PROGRAM).parent.mkdir(parents=True)
        (tree / PROGRAM).write_text(f"#!/bin/sh\necho {version}\n")
        (tree / PROGRAM).chmod(0o755)
        for number in range(3):
            (tree / f"part-{number}.py").write_text(f"VERSION = '{version}'\n")
        files.append(pack_agent(tree, version, TARGET, folder))
    publish_files(folder / "repository", keys, None, {path: described(path) for path in files}, 1000)


def update(hq: Path, state: Path, version: str, names: tuple[str, ...] = ("chest", AGENT)) -> None:
    """Bring the slots to a version, as the agent does."""
    trust = Trust(state / "update", hq / "keys/root.json")
    repository = trust.repository(str(hq / "repository"))
    device = Device(site="clinic", device="cart-1", target=TARGET)
    for name in names:
        slot = Slot(state / "slots", name)
        if slot.state.trial:
            slot.put(slot.state.start())
        release = choose(repository.releases(), device, name, version)
        installed = slot.install(release, lambda path, release=release: repository.download(release, path))
        if slot.state.used != installed:
            slot.put(slot.state.begin(installed) if slot.state.used else State(current=installed))
        slot.put(slot.state.commit())


def there_and_back(hq: Path, state: Path) -> None:
    """Update, roll back, and update again, to another version."""
    update(hq, state, NEW)
    for name in ("chest", AGENT):
        slot = Slot(state / "slots", name)
        slot.put(slot.state.back("command").told())
    update(hq, state, NEWEST)


def sound(state: Path) -> bool:
    """Whether what the slots use is whole, and one of the versions."""
    for name in ("chest", AGENT):
        slot = Slot(state / "slots", name)
        used = slot.state.used
        if used is None or version_of(used) not in (OLD, NEW, NEWEST) or not slot.whole(used):
            return False
    return True


def child(work: Callable[[], None]) -> int:
    """A process that waits to be let go, works, and ends."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, os.WUNTRACED)
        return pid
    try:
        os.kill(os.getpid(), signal.SIGSTOP)
        work()
        os._exit(0)
    except BaseException as error:  # noqa: BLE001  a child goes no further than here
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)


def traced(pid: int, *options: str) -> tuple[int, str]:
    """Let a stopped process go under strace; its end (as of ``os.waitstatus_to_exitcode``), and the calls."""
    command = ["strace", "-f", "-qq", "-o", "/dev/stdout", "-p", str(pid), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tracer:
        status = Path(f"/proc/{pid}/status")
        while not re.search(r"^TracerPid:\s*[1-9]", status.read_text(), re.M):
            time.sleep(0.001)
        os.kill(pid, signal.SIGCONT)
        calls, _ = tracer.communicate()
    _, ended = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(ended), calls


def kills(folder: Path, wanted: int | None) -> Counter[str]:
    """Kill an update at its system calls, one after the other."""
    hq, template, state = folder / "hq", folder / "template", folder / "state"
    update(hq, template, OLD)
    shutil.copytree(template, state)
    ended, calls = traced(child(lambda: there_and_back(hq, state)))
    assert ended == 0 and sound(state), "the update does not succeed even when nobody disturbs it"
    order = re.findall(r"^\d+ +(\w+)\(", calls, re.M)
    nth: Counter[str] = Counter()  # strace counts the calls of each name
    places = []
    for name in order:
        nth[name] += 1
        places.append((name, nth[name]))
    found = Counter(positions=len(places))
    for name, number in places[:: max(1, len(places) // wanted) if wanted else 1]:
        shutil.rmtree(state)
        shutil.copytree(template, state)
        pid = child(lambda: there_and_back(hq, state))
        ended, _ = traced(pid, "-e", f"inject={name}:signal=SIGKILL:when={number}")
        found["kills"] += ended == -signal.SIGKILL
        found["invalid"] += not sound(state)
        found["new"] += version_of(Slot(state / "slots", "chest").state.used or "") != OLD
        try:
            update(hq, state, NEWEST)
            found["stuck"] += not sound(state)
        except Exception as error:  # noqa: BLE001  whatever it is, it is counted
            click.echo(f"{name} {number}: {error}", err=True)
            found["stuck"] += 1
    return found


def cuts(folder: Path, wanted: int, seed: int) -> Counter[str]:
    """Cut the power while one update follows the other."""
    chance, found = random.Random(seed), Counter[str](cuts=wanted)
    image, copy, disk, after = (folder / name for name in ("disk.img", "copy.img", "disk", "after"))
    with image.open("wb") as file:
        file.truncate(IMAGE_MB << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    said, saying = os.pipe()
    os.set_blocking(said, False)

    def work() -> None:
        for number in range(10**9):
            update(folder / "hq", disk / "state", (OLD, NEW)[number % 2], ("chest",))
            os.write(saying, b"%d\n" % number)

    with mounted(image, disk):
        update(folder / "hq", disk / "state", NEW)
        pid = child(work)
        os.kill(pid, signal.SIGCONT)
        heard = -1
        try:
            for _ in range(wanted):
                time.sleep(chance.uniform(0.02, 0.3))
                with open(said, "rb", closefd=False) as pipe:
                    lines = (pipe.read() or b"").split()
                heard = int(lines[-1]) if lines else heard
                cut(image, copy, pid)
                found["unclean_filesystems"] += unclean(copy)
                with mounted(copy, after):
                    state = after / "state"
                    found["invalid"] += not sound(state)
                    slot = Slot(state / "slots", "chest")
                    current = version_of(slot.state.current or "")
                    # What was said before the cut is in use, or was replaced by the update after it.
                    committed = (OLD, NEW)[heard % 2] if heard >= 0 else NEW
                    later = slot.state.trial is None and current != committed
                    found["later"] += later
                    found["forgotten"] += later and version_of(slot.state.previous or "") != committed
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    found["updates"] = heard + 1
    return found


@click.command()
@click.option("--kills", "wanted", type=int, help="So many, spread evenly, instead of one a system call.")
@click.option("--cuts", "cut_count", default=200, show_default=True, help="How many.")
@click.option("--seed", default=0, show_default=True, help="Of the moments of the cuts.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures there, too.")
def main(wanted: int | None, cut_count: int, seed: int, path: Path | None) -> None:
    """Print what kills and power cuts left."""
    if not shutil.which("strace"):
        sys.exit("error: strace is not installed: apt-get install strace")
    if cut_count and os.geteuid():
        sys.exit("error: mounting an image needs root; without: --cuts 0")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "hq").mkdir()
        headquarters(folder / "hq")
        found = kills(folder, wanted)
        if cut_count:
            found += cuts(folder, cut_count, seed)
    keys = ("positions", "kills", "new", "cuts", "updates", *WRONG)
    result = {key: found[key] for key in keys} | {"seconds": round(time.monotonic() - started)}
    text = json.dumps(result)
    print(text)
    if path:
        path.write_text(text + "\n", encoding="utf-8")
    sys.exit(any(result[kind] for kind in WRONG))


if __name__ == "__main__":
    main()
