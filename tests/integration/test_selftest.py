"""The self-test against a real broker: what is well passes, each planted fault fails its own line."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from edge.agent.commissioning import Report
from edge.agent.config import load_config
from edge.agent.selftest import run_selftest
from edge.agent.state import lock_state
from edge.errors import ScanwrightError
from edge.mqtt.payloads import Finding
from tests.integration.conftest import free_port, wait_for

pytestmark = pytest.mark.integration

# This machine's clock and room are as they are.
_OF_THE_MACHINE = {"clock", "disk", "memory", "temperature"}


@pytest.fixture
def cart(tmp_path: Path, tiny_bundle) -> Callable[..., Path]:
    """``cart(port, **changes)``: path of a configuration that is well."""
    tiny_bundle(tmp_path / "tiny.swb")
    (tmp_path / "drop").mkdir()

    def write(port: int, **changes: Any) -> Path:
        path = tmp_path / "agent.yaml"
        said = {
            "site": "clinic",
            "device": "cart-1",
            "state": "state",
            "bundles": ["tiny.swb"],
            "allow_unsigned": True,
            "sources": [{"kind": "folder", "path": "drop"}],
            "mqtt": {"port": port},
            "screen": {"port": 0},
        }
        path.write_text(yaml.safe_dump(said | changes))
        return path

    return write


@pytest.fixture
def broker(mosquitto):
    running = mosquitto()
    running.start()
    return running


def failed(report: Report) -> set[str]:
    return {check.name for check in report.checks if not check.passed} - _OF_THE_MACHINE


def test_a_well_cart_passes_and_its_practice_finding_is_told_as_a_test(broker, subscriber, cart, tmp_path):
    watcher = subscriber(broker.port)
    config = cart(broker.port)
    out = tmp_path / "commissioning.html"
    command = [
        sys.executable,
        "-m",
        "edge.cli",
        "agent",
        "selftest",
        "--config",
        str(config),
        "--out",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = dict(re.findall(r"^(?:PASS|FAIL)  (\S.*?)  +(.*)$", done.stdout, re.M))
    verdicts = {name: verdict for verdict, name in re.findall(r"^(PASS|FAIL)  (\S.*?)  ", done.stdout, re.M)}
    assert {name for name, verdict in verdicts.items() if verdict == "FAIL"} <= _OF_THE_MACHINE, done.stdout
    assert done.returncode == ("FAIL" in verdicts.values())
    assert not [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")]
    assert {
        "configuration",
        "bundle tiny.swb",
        "time of tiny.swb",
        "source folder",
        "broker reachable",
        "agent decides",
        "broker accepts",
        "screen",
    } | _OF_THE_MACHINE == set(lines)
    assert "golden vectors replayed" in lines["bundle tiny.swb"] and "NOT SIGNED" in lines["bundle tiny.swb"]
    assert "written through and read back" in lines["disk"]

    wait_for(watcher.findings)
    (finding,) = map(Finding.model_validate, watcher.findings())
    assert finding.test and finding.source == "selftest"
    assert watcher.topics("/up/availability")[-1] == b"offline"
    page = out.read_text()
    assert page.count("<tr>") == 1 + len(lines) and "Signature" in page and "clinic/cart-1" in page
    # The real sources were left alone, and nothing of the test stays behind.
    assert not (tmp_path / "state" / "selftest.bin").exists()


def test_receipts_are_waited_for(broker, subscriber, cart, monkeypatch):
    monkeypatch.setattr("edge.agent.selftest._ANSWER_S", 4.0)
    watcher = subscriber(broker.port)
    config = load_config(cart(broker.port, mqtt={"port": broker.port, "receipts": True}))
    report = run_selftest(config)
    assert failed(report) == {"broker accepts"}
    assert "down/ack" in next(check.seen for check in report.checks if check.name == "broker accepts")

    def acknowledge(_client: object, _data: object, message: Any) -> None:
        if message.topic.endswith("/up/finding"):
            ids = json.dumps({"ids": [json.loads(message.payload)["id"]]})
            _client.publish("scanwright/clinic/cart-1/down/ack", ids, qos=1)  # type: ignore[attr-defined]

    watcher._client.on_message = acknowledge
    assert failed(run_selftest(config)) == set()


def test_what_nobody_subscribes_to_is_not_told(broker, cart, monkeypatch):
    monkeypatch.setattr("edge.agent.selftest._ANSWER_S", 3.0)
    assert failed(run_selftest(load_config(cart(broker.port)))) == {"broker accepts"}


def test_each_fault_fails_its_own_line(cart, tmp_path, monkeypatch):
    monkeypatch.setattr("edge.agent.selftest._ANSWER_S", 4.0)
    (tmp_path / "empty.avi").touch()
    taken = socket.create_server(("127.0.0.1", 0))
    dicom = {"kind": "dicom", "host": "127.0.0.1", "callers": ["CR"]}
    sources = [
        dicom | {"name": "scp", "port": free_port()},
        dicom | {"name": "taken", "port": taken.getsockname()[1]},
        {"kind": "folder", "name": "gone", "path": "nowhere"},
        {"kind": "capture", "name": "clip", "url": "empty.avi"},
        {"kind": "capture", "name": "net", "url": f"rtsp://127.0.0.1:{free_port()}/x", "open_timeout_s": 1},
    ]
    report = run_selftest(load_config(cart(free_port(), sources=sources)))
    taken.close()
    assert failed(report) == {
        "source taken",
        "source gone",
        "source clip",
        "source net",
        "broker reachable",
        "broker accepts",
    }
    assert not report.passed and report.result.startswith("FAIL: ")


def test_a_changed_byte_in_a_bundle_fails_all_that_needs_it(broker, cart, tmp_path):
    config = load_config(cart(broker.port))
    data = bytearray((tmp_path / "tiny.swb").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "tiny.swb").write_bytes(data)
    assert failed(run_selftest(config)) >= {"bundle tiny.swb", "time of tiny.swb", "agent decides"}


def test_frames_of_a_video_are_a_source(broker, subscriber, cart, tmp_path, picture):
    subscriber(broker.port)
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64), False)
    for seed in range(3):
        writer.write(picture("normal", seed, 64))
    writer.release()
    config = load_config(cart(broker.port, sources=[{"kind": "capture", "url": "clip.avi"}]))
    assert failed(run_selftest(config)) == set()


def test_it_does_not_disturb_a_running_agent(cart, tmp_path):
    config = load_config(cart(free_port()))
    with lock_state(tmp_path / "state"), pytest.raises(ScanwrightError, match="stop that one first"):
        run_selftest(config)


def test_it_leaves_another_users_state_alone(cart, tmp_path, monkeypatch):
    config = load_config(cart(free_port()))
    (tmp_path / "state").mkdir()
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    with pytest.raises(ScanwrightError, match="run the self-test as"):
        run_selftest(config)
