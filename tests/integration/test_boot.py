"""A card is flashed, an emulated board starts from it, and everything a cart must stand is done to it."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import yaml
from board import Board, vendor_image
from pydicom.uid import UltrasoundImageStorage
from releases import Releases

from edge.agent.order import order as send
from edge.bundle.archive import write_bundle
from edge.bundle.golden import Golden
from edge.mqtt.broker import Broker
from edge.mqtt.topics import Topics
from tests.integration.conftest import free_port, wait_for
from tests.integration.test_dicom import storescu, write

pytestmark = [pytest.mark.boot, pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a system")]

TARGET = "raspberry-pi-5"


class Web(http.server.ThreadingHTTPServer):
    """Gives out a folder on loopback, as any web server does."""

    def __init__(self, folder: Path) -> None:
        quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
        super().__init__(("127.0.0.1", 0), functools.partial(quiet, directory=str(folder)))
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    made = Web(tmp_path)
    yield made
    made.shutdown()
    made.server_close()


def scanwright(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "edge.cli", *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Bench:
    """The board, its broker and what was measured."""

    def __init__(self, board: Board, watcher: Any, broker_port: int, folder: Path) -> None:
        self.board, self.watcher, self.folder = board, watcher, folder
        self.broker = Broker("127.0.0.1", broker_port)

    def say(self, what: str, since: float) -> None:
        click.echo(f"{what}: {time.monotonic() - since:.0f} s")

    def finding(self, timeout_s: float = 600) -> None:
        """Send an image as a modality does, again and again until it is taken; wait for its finding."""
        before = len(self.watcher.findings())
        file = write(self.folder / f"{before}.dcm", UltrasoundImageStorage, PatientID=f"X{time.time()}")

        def sent() -> bool:
            assert self.board.runs(), self.board.log.read_text(errors="replace")[-3000:]
            done = storescu(self.board._port, file, calling="US1", called="SCANWRIGHT")
            time.sleep(0.0 if done.returncode == 0 else 0.5)
            return done.returncode == 0

        wait_for(sent, timeout_s)
        wait_for(lambda: len(self.watcher.findings()) > before, timeout_s)

    def order(self, command: str, /, **arguments: Any) -> Any:
        return send(self.broker, Topics("clinic", "cart-1"), command, arguments, 120)

    def events(self, code: str) -> list[dict[str, Any]]:
        return [event["data"] for event in self.watcher.json("/up/event") if event["code"] == code]


@pytest.fixture(params=["firstrun", "cloud-init"])
def bench(
    request: Any,
    tmp_path: Path,
    mosquitto: Any,
    subscriber: Any,
    tiny_bundle: Any,
    web: Web,
) -> Iterator[Callable[[], tuple[Bench, Releases]]]:
    broker = mosquitto()
    broker.start()
    releases = Releases(tmp_path, tiny_bundle)
    releases.bundle("1.0.0")
    site = {
        "site": "clinic",
        "timezone": "Africa/Kigali",
        "broker": {"host": "10.0.2.2", "port": broker.port, "tls": False, "receipts": False},
        "updates": {"repositories": [f"http://10.0.2.2:{web.server_port}/repository"], "health_s": 10},
        "carts": [{"device": "cart-1", "target": TARGET, "dicom": {"callers": ["US1"]}}],
    }
    (tmp_path / "SITE.yaml").write_text(yaml.safe_dump(site))
    vendor = vendor_image(request.param == "cloud-init")
    card = tmp_path / "cart.img"
    began = time.monotonic()
    given = ("--repo", "repository", "--root", "keys/root.json", "--bundle", "tiny")
    scanwright(tmp_path, "flash", "--site", "SITE.yaml", *given, "--image", str(vendor), "--out", str(card))
    made = Bench(
        Board(card, free_port(), tmp_path / "board.log"), subscriber(broker.port), broker.port, tmp_path
    )
    made.say(f"{request.param}: flashed, the agent's package included", began)
    yield made, releases
    made.board.cut_power()


def test_a_flashed_card_starts_survives_a_power_cut_and_updates(bench, tiny_manifest, tiny_members):
    bench, releases = bench
    board = bench.board
    began = time.monotonic()
    board.power_on()
    wait_for(lambda: b"Unpacking scanwright (" in board.log.read_bytes(), 600)
    board.cut_power()
    bench.say("first start, until the power is cut while it installs", began)

    began = time.monotonic()
    board.power_on()
    board.off(900)
    bench.say("second start, installing, until it starts again", began)
    board.power_on()
    bench.finding()
    bench.say("from that start to a finding", began)
    birth = bench.watcher.json("/up/birth")[-1]
    assert birth["bundles"][0]["signed"] is True and birth["target"] == TARGET

    board.cut_power()
    began = time.monotonic()
    board.power_on()
    bench.finding()
    bench.say("from power-on after a hard power-off to a finding", began)

    began = time.monotonic()
    releases.bundle("1.1.0")
    assert bench.order("update", name="tiny").ok
    wait_for(lambda: bench.events("update_on_trial"), 120)
    bench.finding()
    wait_for(lambda: bench.events("update_committed"), 120)
    bench.say("an update over the network, until it is committed", began)

    golden = Golden.from_npz(tiny_members()["golden.npz"])
    other = Golden(golden.inputs, np.roll(golden.outputs, 1, axis=0), golden.kernel, 0)
    bad = releases.folder / "tiny-1.2.0.swb"
    write_bundle(bad, tiny_manifest(version="1.2.0"), tiny_members() | {"golden.npz": other.to_npz()})
    releases.publish(bad)
    bench.order("update", name="tiny")
    (refused,) = wait_for(lambda: bench.events("update_refused"), 120)
    assert refused["version"] == "1.2.0" and "golden" in refused["reason"]

    board.cut_power()
    board.power_on()
    bench.finding()
    assert bench.watcher.findings()[-1]["bundle"]["version"] == "1.1.0"
