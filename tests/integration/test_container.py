"""The container of Dockerfile.arm64, built without its registry and run: a cart's agent in it finds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from arm64 import as_cortex_a72
from debian_root import python_system

from edge import __version__
from edge.bundle.target import target
from tests.integration.carts import Cart
from tests.integration.conftest import Mosquitto, Subscriber, free_port, wait_for
from trainer.flashing.flash import wheels_for

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile.arm64"
_PIP = """\
[global]
no-index = true
find-links =
    /wheels
    /build
"""


class Builder:
    """Buildah with a store of its own, which goes with it."""

    def __init__(self, folder: Path, architecture: str) -> None:
        if os.geteuid() or not shutil.which("buildah"):
            pytest.skip("needs root and buildah: apt-get install buildah")
        self._folder, self._architecture = folder, architecture

    def command(self, *arguments: object) -> list[str]:
        store = ("--root", self._folder / "store", "--runroot", self._folder / "run")
        return list(map(str, ("buildah", *store, *arguments)))

    def __call__(self, *arguments: object) -> str:
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=1800, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout.strip()

    def base(self) -> None:
        """Debian's Python under the name of the image that is built upon."""
        container = self("from", "--arch", self._architecture, "scratch")
        self("add", container, python_system("bookworm", self._architecture), "/")
        self("commit", "--rm", container, DOCKERFILE.read_text().split("\nFROM ")[1].split()[0])

    def build(self) -> str:
        """The image, its requirements from the lock's own wheels with no network; its name."""
        board = target(f"generic-{self._architecture}")
        build = self._folder / "build"
        given = ("--quiet", "--require-hashes", "--only-binary=:all:", "-r", "requirements/build.txt")
        command = [sys.executable, "-m", "pip", "download", *given, "-d", str(build)]
        subprocess.run(command, cwd=ROOT, check=True, timeout=300)
        (self._folder / "pip.conf").write_text(_PIP)
        mounts = {
            "/wheels": wheels_for(board, board.release("bookworm"), None),
            "/build": build,
            "/etc/pip.conf": self._folder / "pip.conf",
        }
        volumes = [f"--volume={path}:{where}:ro" for where, path in mounts.items()]
        how = ("--isolation=chroot", "--pull-never", "--format=docker", f"--arch={self._architecture}")
        self("bud", *how, *volumes, "-f", DOCKERFILE, "-t", "scanwright", ROOT)
        return "scanwright"

    def within(self, container: str, folder: Path, *command: str) -> list[str]:
        """What runs ``command`` in a container that has ``folder`` for its /cart."""
        given = ("run", "--isolation=chroot", f"--volume={folder}:/cart")
        if self._architecture == "amd64":
            return self.command(*given, container, "--", *command)
        emulated = self.command(*given, "--env=QEMU_CPU=cortex-a72", container, "--", *command)
        return as_cortex_a72(self._folder, *emulated)

    def container(self, image: str) -> str:
        """A container of ``image``, and its name."""
        name = self("from", "--pull-never", image)
        self("config", "--volume=/cart-", name)  # else the image's own volume hides what is mounted there
        self("mount", name)  # here, for commands that have their own mounts and run at the same time
        return name

    def end(self) -> None:
        self("rm", "--all")
        shutil.rmtree(self._folder / "store")


@pytest.fixture(params=["amd64", pytest.param("arm64", marks=pytest.mark.boot)])
def builder(request: Any, tmp_path: Path) -> Iterator[Builder]:
    made = Builder(tmp_path, request.param)
    yield made
    made.end()


def test_the_container_runs_an_agent_and_tells_how_it_is(
    builder: Builder, mosquitto: Any, subscriber: Any, make_cart: Any
) -> None:
    builder.base()
    image = builder.build()
    config = json.loads(builder("inspect", "--type=image", image))["Docker"]["config"]
    broker: Mosquitto = mosquitto()
    broker.start()
    watcher: Subscriber = subscriber(broker.port)
    cart: Cart = make_cart(broker.port)
    cart.config["screen"] = {"host": "0.0.0.0", "port": free_port()}
    for path in (cart.folder, cart.drop, cart.path):
        shutil.chown(path, 10001, 10001)
    container = builder.container(image)

    def within(*command: str) -> list[str]:
        return builder.within(container, cart.folder, *command)

    def said(*command: str) -> str:
        done = subprocess.run(within(*command), capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    entry = config["Entrypoint"]
    assert __version__ in said(*entry, "--version")
    with cart.log.open("w") as log:
        cart.process = subprocess.Popen(within(*entry, *config["Cmd"]), stdout=log, stderr=log, text=True)

    def heard(count: int, end: str) -> bool:
        assert cart.process and cart.process.poll() is None, cart.log.read_text()
        return len(watcher.topics(end)) == count

    wait_for(lambda: heard(1, "/up/birth"), 180)
    cart.feed(1, 2)
    wait_for(lambda: heard(2, "/up/finding"), 180)
    assert {finding["decision"] for finding in watcher.findings()} == {"positive", "negative"}
    assert '"golden_difference": 0}' in cart.log.read_text()
    kind, *check = config["Healthcheck"]["Test"]
    assert kind == "CMD" and "positive" in said(*check)
    # It is nobody, and what it keeps is where it outlives the container.
    assert (cart.folder / "state/agent.db").stat().st_uid == int(config["User"]) == 10001
    assert said("sh", "-c", "find / -xdev -user scanwright -not -path '/cart*' 2>/dev/null; true") == ""
    # An engine asks the container's first process to stop; buildah and its helpers kill it.
    within_it = [
        p for p in psutil.Process(cart.process.pid).children(recursive=True) if p.uids().real == 10001
    ]
    next(process for process in within_it if "buildah" not in process.cmdline()[0]).terminate()
    assert cart.process.wait(60) == 0
    assert watcher.topics("/up/availability")[-1] == b"offline"
