"""The agent replaces itself through the launcher: a good one stays, a bad one is given up, frames go on."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from releases import Releases

from edge import __version__
from edge.update import launch
from edge.update.package import PROGRAM, pack_agent
from tests.integration.carts import Cart
from tests.integration.conftest import wait_for
from tests.integration.test_updates import events, order, slot

pytestmark = pytest.mark.integration

AGENT = """#!{python}
import sys

import edge

edge.__version__ = "{version}"
if "run" in sys.argv and {broken}:
    sys.exit("this agent does not start")
from edge.cli import main

main()
"""


def program(path: Path, version: str, broken: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(AGENT.format(python=sys.executable, version=version, broken=broken))
    path.chmod(0o755)
    return path


def package(folder: Path, version: str, broken: bool = False) -> Path:
    program(folder / version / PROGRAM, version, broken)
    return pack_agent(folder / version, version, None, folder)


class Service:
    """Starts the launcher again whenever it ends, as systemd does."""

    def __init__(self, cart: Cart, base: Path) -> None:
        slots = cart.folder / "state/slots/agent"
        run = ["agent", "run", "--config", str(cart.path)]
        self._command = [sys.executable, "-I", "-S", launch.__file__, str(slots), str(base), *run]
        self._log, self._ended = cart.log, threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self._thread = threading.Thread(target=self._keep)
        self._thread.start()

    def _keep(self) -> None:
        while not self._ended.is_set():
            with self._log.open("a") as log:
                self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
            self.starts += 1
            self._process.wait()

    def close(self) -> None:
        self._ended.set()
        if self._process:
            self._process.terminate()
        self._thread.join(60)


def test_a_new_agent_proves_itself_and_one_that_does_not_start_is_given_up(
    mosquitto, subscriber, make_cart, tmp_path, tiny_bundle
):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    (tmp_path / "hq").mkdir()
    releases = Releases(tmp_path / "hq", tiny_bundle)
    releases.publish()
    cart: Cart = make_cart(broker.port)
    cart.config["update"] = {
        "repositories": [str(releases.repository)],
        "root": str(releases.root),
        "agent": True,
        "health_s": 2,
    }
    service = Service(cart, program(tmp_path / "base", __version__))
    try:
        wait_for(lambda: watcher.json("/up/birth"))
        assert (slot(watcher)["name"], slot(watcher)["version"]) == ("agent", __version__)
        releases.publish(package(tmp_path, "7.0.0"))
        cart.feed(1)
        assert order(cart, "update", name="agent").ok
        wait_for(lambda: events(watcher, "update_committed"))
        wait_for(lambda: slot(watcher)["result"] == "committed")
        birth = watcher.json("/up/birth")[-1]
        assert birth["agent_version"] == "7.0.0" and birth["slots"][0]["version"] == "7.0.0"
        cart.feed(2)

        releases.publish(package(tmp_path, "7.1.0", broken=True))
        starts = service.starts
        assert order(cart, "update", name="agent", version="7.1.0").ok
        wait_for(lambda: events(watcher, "update_rolled_back"))
        (back,) = events(watcher, "update_rolled_back")
        assert (back["version"], back["reason"], back["used"]) == ("7.1.0", "crashed", "7.0.0")
        assert service.starts == starts + 4
        cart.feed(3)
        wait_for(lambda: len(watcher.findings()) == 3)

        assert order(cart, "rollback", name="agent").ok
        wait_for(lambda: watcher.json("/up/birth")[-1]["agent_version"] == __version__)
        wait_for(lambda: len(events(watcher, "update_rolled_back")) == 2)
        cart.feed(4)
        wait_for(lambda: len({finding["id"] for finding in watcher.findings()}) == 4)
    finally:
        service.close()


def test_an_agent_that_cannot_use_the_configuration_is_not_even_tried(
    mosquitto, subscriber, make_cart, tmp_path, tiny_bundle
):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    (tmp_path / "hq").mkdir()
    releases = Releases(tmp_path / "hq", tiny_bundle)
    cart: Cart = make_cart(broker.port)
    cart.config["update"] = {
        "repositories": [str(releases.repository)],
        "root": str(releases.root),
        "agent": True,
    }
    cart.start()
    wait_for(lambda: watcher.json("/up/birth"))
    bad = tmp_path / "bad"
    (bad / "bin").mkdir(parents=True)
    (bad / PROGRAM).write_text("#!/bin/sh\necho 'update: unknown key' >&2\nexit 2\n")
    (bad / PROGRAM).chmod(0o755)
    releases.publish(pack_agent(bad, "7.0.0", None, tmp_path))
    pid = cart.process.pid
    assert order(cart, "update", name="agent").ok
    (refused,) = wait_for(lambda: events(watcher, "update_refused"))
    assert refused["reason"] == "unusable"
    assert "unknown key" in next(
        e["message"] for e in watcher.json("/up/event") if e["code"] == "update_refused"
    )
    assert cart.process.poll() is None and cart.process.pid == pid
    assert cart.end() == 0
