"""What is left of an agent's state after power cuts, on a real ext4 file system.

    python benchmarks/power_cuts.py [--cuts 200] [--json FILE]     (root, with loop devices)

The agent's state lies on an ext4 in an image file, mounted through a loop device. At random moments the agent
is stopped between two system calls and the image copied, twice alike, as the power cut leaves it: what is in
memory only is not in it. Each copy is mounted as after the cut: the journal is replayed, the file system and
the database are checked, and every finding that had been published before (``acknowledged`` by the commit)
must be in it, still waiting, since nobody receipts it. On the last copy the agent goes on, and every frame
must have its finding. Ends with exit code 1 if anything is missing or damaged.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
from kills import listen
from parts import Cart, broker, rows, until

WRONG = ("unclean_filesystems", "damaged_databases", "lost", "missing_after_restart")
IMAGE_MB = 64
APART_S = 0.6  # most between two cuts
LAST_S = 300.0


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """The file system of an image, as long as the context lasts."""
    folder.mkdir(exist_ok=True)
    _do("mount", "-o", "loop", str(image), str(folder))
    try:
        yield folder
    finally:
        _do("umount", str(folder))


def cut(image: Path, copy: Path, pid: int) -> None:
    """Copy the image as it is at one moment, of what a process writes to it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        data = image.read_bytes()
        while (again := image.read_bytes()) != data:  # a system call that had begun, or the kernel's own
            data = again
    finally:
        os.kill(pid, signal.SIGCONT)
    copy.write_bytes(data)


def unclean(copy: Path) -> bool:
    """Whether a file system is damaged once its journal was replayed."""
    # e2fsck says 1 where it replayed the journal, as the mount would, and 0 once nothing is to be done.
    replayed = subprocess.run(["e2fsck", "-p", str(copy)], capture_output=True, check=False).returncode
    checked = subprocess.run(["e2fsck", "-fn", str(copy)], capture_output=True, check=False).returncode
    return replayed > 1 or checked != 0


def examine(copy: Path, folder: Path, acknowledged: set[str]) -> Counter[str]:
    """What is wrong with a copy, counted."""
    wrong: Counter[str] = Counter()
    wrong["unclean_filesystems"] += unclean(copy)
    with mounted(copy, folder):
        path = folder / "state" / "agent.db"
        try:
            with closing(sqlite3.connect(path)) as database:
                sound = database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                there = {id_ for (id_,) in database.execute("SELECT id FROM finding JOIN outbox USING (id)")}
        except sqlite3.Error:
            sound, there = False, set()
        wrong["damaged_databases"] += not sound
        wrong["lost"] += len(acknowledged - there)
    return wrong


def run(folder: Path, cuts: int, seed: int) -> dict[str, object]:
    chance = random.Random(seed)
    image, copy = folder / "disk.img", folder / "copy.img"
    with image.open("wb") as file:
        file.truncate(IMAGE_MB << 20)
    _do("mkfs.ext4", "-q", str(image))
    bus, port = broker(folder)
    bus.start()
    until(lambda: b"running" in bus.log.read_bytes(), 10, bus)
    heard: Counter[str] = Counter()
    listener = listen(port, heard)
    started = time.monotonic()
    wrong: Counter[str] = Counter()
    acknowledged: set[str] = set()
    disk, after = folder / "disk", folder / "after"
    try:
        with mounted(image, disk):
            cart = Cart(folder / "cart", port, disk / "state")
            cart.start()
            try:
                cart.feed()
                if not until(lambda: bool(heard), LAST_S, cart):
                    raise RuntimeError("the agent told nothing")
                for _ in range(cuts):
                    end = time.monotonic() + chance.uniform(0, APART_S)
                    while time.monotonic() < end:
                        cart.feed()
                        time.sleep(chance.uniform(0, 0.1))
                    cart.alive()
                    acknowledged = set(heard)
                    assert cart.process
                    cut(image, copy, cart.process.pid)
                    wrong += examine(copy, after, acknowledged)
            finally:
                cart.kill()
        with mounted(copy, disk):
            cart.start()
            try:

                def missing() -> int:
                    return cart.fed - len(rows(cart.database, "SELECT 1 FROM finding"))

                until(lambda: missing() == 0, LAST_S, cart)
                wrong["missing_after_restart"] = missing()
            finally:
                cart.kill()
    finally:
        listener.disconnect()
        listener.loop_stop()
        bus.kill()
    return {
        "cuts": cuts,
        "frames": cart.fed,
        "acknowledged": len(acknowledged),
        **{kind: wrong[kind] for kind in WRONG},
        "seconds": round(time.monotonic() - started),
    }


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip()}")


@click.command()
@click.option("--cuts", default=200, show_default=True, help="How many.")
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures there, too.")
def main(cuts: int, seed: int, path: Path | None) -> None:
    """Print what the power cuts left."""
    if os.geteuid():
        sys.exit("error: mounting an image needs root")
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), cuts, seed)
    text = json.dumps(result)
    print(text)
    if path:
        path.write_text(text + "\n", encoding="utf-8")
    sys.exit(any(result[kind] for kind in WRONG))


if __name__ == "__main__":
    main()
