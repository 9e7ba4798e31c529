"""The real agent as a process, against a real mosquitto: nothing is lost, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from edge.mqtt.payloads import Birth, Event, Finding, Health, Response
from tests.integration.conftest import Mosquitto, Subscriber, free_port, wait_for

pytestmark = pytest.mark.integration

_PATIENT = "DOE-JOHN-19600101"


class Cart:
    """An agent's folder, and the agent when it runs."""

    def __init__(
        self, folder: Path, bundle: Callable[..., Path], picture: Callable[..., Any], port: int
    ) -> None:
        self.folder, self.picture = folder, picture
        self.drop = folder / "drop"
        self.drop.mkdir()
        bundle(folder / "tiny.swb")
        self.config: dict[str, Any] = {
            "site": "clinic",
            "device": "cart-1",
            "state": "state",
            "bundles": ["tiny.swb"],
            "allow_unsigned": True,
            "sources": [{"kind": "folder", "path": "drop", "poll_s": 0.05, "settle_s": 0.1}],
            "mqtt": {"port": port},
            "screen": None,
        }
        self.process: subprocess.Popen[str] | None = None
        self.log = folder / "agent.log"

    @property
    def path(self) -> Path:
        path = self.folder / "agent.yaml"
        path.write_text(yaml.safe_dump(self.config))
        return path

    def feed(self, *numbers: int) -> None:
        """Drop pictures, each different, under names that a patient could be known by."""
        for number in numbers:
            kind = "lesion" if number % 2 else "normal"
            png = cv2.imencode(".png", self.picture(kind, number))[1].tobytes()
            partial = self.drop / f".{number}"
            partial.write_bytes(png)
            partial.rename(self.drop / f"{_PATIENT}-{number}.png")

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge.cli", "agent", "run", "--config", str(self.path)],
                stdout=log,
                stderr=log,
                text=True,
            )

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(60)

    def waiting(self) -> int:
        """How many findings wait in the agent's outbox; -1 before there is one."""
        path = self.folder / "state" / "agent.db"
        if not path.exists():
            return -1
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'outbox'").fetchone():
                return -1
            return int(database.execute("SELECT count(*) FROM outbox WHERE kind = 'finding'").fetchone()[0])

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edge.cli", "agent", *arguments, "--config", str(self.path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def cart(tmp_path: Path, tiny_bundle, picture) -> Iterator[Callable[[int], Cart]]:
    made: list[Cart] = []

    def make(port: int) -> Cart:
        folder = tmp_path / f"cart-{len(made)}"
        folder.mkdir()
        made.append(Cart(folder, tiny_bundle, picture, port))
        return made[-1]

    yield make
    for one in made:
        if one.process and one.process.poll() is None:
            one.process.kill()
            one.process.wait(10)


def _ids(watcher: Subscriber) -> set[str]:
    return {finding["id"] for finding in watcher.findings()}


def test_frames_become_findings_and_a_stop_is_clean(mosquitto, subscriber, cart):
    broker: Mosquitto = mosquitto()
    broker.start()
    watcher: Subscriber = subscriber(broker.port)
    agent: Cart = cart(broker.port)
    agent.config["health_s"] = 0.3
    agent.config["overlays"] = "positive"
    agent.start()
    wait_for(lambda: watcher.topics("/up/birth"))
    agent.feed(*range(6))
    wait_for(lambda: len(watcher.findings()) == 6)
    wait_for(lambda: watcher.json("/up/health")[-1:] and watcher.json("/up/health")[-1]["findings"] == 6)
    assert agent.end() == 0

    findings = [Finding.model_validate(finding) for finding in watcher.findings()]
    assert {(f.decision, f.label) for f in findings} == {("positive", "lesion"), ("negative", "normal")}
    assert len({f.id for f in findings}) == len({f.case_code for f in findings}) == 6
    assert not any(f.backfill or f.bundle.signed or f.reasons for f in findings)
    positive = next(f for f in findings if f.decision == "positive")
    assert positive.evidence.peak and positive.evidence.overlay and positive.elapsed_ms["infer"] > 0
    heat = watcher.topics(f"/up/overlay/{positive.id}")
    assert len(heat) == 1 and cv2.imdecode(np.frombuffer(heat[0], np.uint8), cv2.IMREAD_UNCHANGED).ndim == 2
    assert {Birth.model_validate(birth).device for birth in watcher.json("/up/birth")} == {"cart-1"}
    assert all(Health.model_validate(health).memory_mb > 0 for health in watcher.json("/up/health"))
    assert "bundle_unsigned" in [Event.model_validate(event).code for event in watcher.json("/up/event")]
    assert watcher.topics("/up/availability") == [b"online", b"offline"]

    told = b"".join(payload for _, payload in watcher.messages).decode("latin1") + agent.log.read_text()
    assert _PATIENT not in told
    lines = [line for line in agent.log.read_text().splitlines() if not line.startswith("INFO: ")]
    assert all(json.loads(line)["message"] for line in lines)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_killed_broker_loses_no_finding(mosquitto, subscriber, cart, protocol):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent = cart(broker.port)
    agent.config["mqtt"] |= {"protocol": protocol, "receipts": protocol == "3.1.1"}
    agent.start()
    agent.feed(*range(20))
    wait_for(lambda: len(watcher.findings()) >= 5)
    broker.kill()
    agent.feed(*range(20, 40))
    time.sleep(0.5)
    broker.start()
    agent.feed(*range(40, 50))
    wait_for(lambda: len(_ids(watcher)) == 50, 40)
    if protocol == "3.1.1":
        watcher.publish("scanwright/clinic/cart-1/down/ack", json.dumps({"ids": sorted(_ids(watcher))}))
    wait_for(lambda: agent.waiting() == 0)
    assert agent.end() == 0
    assert any(finding["backfill"] for finding in watcher.findings())
    assert len(_ids(watcher)) == 50
    assert "broker_lost" in [event["code"] for event in watcher.json("/up/event")]


def test_an_agent_killed_at_any_moment_tells_every_frame_and_none_as_another(mosquitto, subscriber, cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent = cart(broker.port)
    fed = 0
    for told in (1, 50, 110):
        agent.start()
        agent.feed(*range(fed, fed + 40))
        fed += 40
        wait_for(lambda told=told: len(_ids(watcher)) >= told)
        agent.end(signal.SIGKILL)
    wait_for(lambda: watcher.topics("/up/availability")[-1:] == [b"offline"])  # the last will
    agent.start()
    wait_for(lambda: len(_ids(watcher)) == fed, 30)
    wait_for(lambda: agent.waiting() == 0)
    told = len(watcher.findings())
    assert agent.end() == 0
    agent.start()
    wait_for(lambda: watcher.topics("/up/availability")[-1:] == [b"online"])
    time.sleep(0.5)
    assert agent.end() == 0
    assert len(watcher.findings()) == told, "a frame was told again though it was told well"
    assert len(_ids(watcher)) == fed


def test_an_agent_runs_without_a_broker_and_tells_later(mosquitto, subscriber, cart):
    broker = mosquitto()
    agent = cart(broker.port)
    agent.start()
    agent.feed(*range(5))
    wait_for(lambda: agent.waiting() == 5)
    broker.start()
    watcher = subscriber(broker.port)
    wait_for(lambda: len(_ids(watcher)) == 5, 40)
    assert all(finding["backfill"] for finding in watcher.findings())
    wait_for(lambda: "bundle_unsigned" in [event["code"] for event in watcher.json("/up/event")])
    wait_for(lambda: [event["code"] for event in watcher.json("/up/event")].count("broker_lost") == 1)
    assert agent.end() == 0


def test_broken_files_are_quarantined_and_told_and_the_next_frame_is_found(mosquitto, subscriber, cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent = cart(broker.port)
    (agent.drop / f"{_PATIENT}-text.png").write_text("this is no picture")
    (agent.drop / "empty.dcm").write_bytes(b"")
    (agent.drop / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\0\0\0UL\x04\0")
    agent.start()
    wait_for(lambda: sum(event["code"] == "quarantined" for event in watcher.json("/up/event")) == 3)
    agent.feed(1)
    wait_for(lambda: any(finding["decision"] == "positive" for finding in watcher.findings()))
    wait_for(lambda: len(list(agent.drop.iterdir())) == 1)
    assert agent.end() == 0
    refused = [finding for finding in watcher.findings() if finding["decision"] == "no_result"]
    assert [finding["reasons"] for finding in refused] == [["unreadable"]] * 3
    quarantine = agent.folder / "state" / "quarantine"
    for finding in refused:
        assert json.loads((quarantine / f"{finding['id']}.json").read_text())["reason"] == "unreadable"
    listed = agent.command("quarantine", "--out", str(agent.folder / "out"))
    assert listed.returncode == 0 and listed.stdout.count("unreadable") == 3
    contents = {file.read_bytes() for file in (agent.folder / "out").iterdir()}
    assert b"this is no picture" in contents and len(contents) == 3
    assert _PATIENT not in "".join(str(message) for message in watcher.messages) + agent.log.read_text()


def test_the_same_picture_under_another_name_is_not_told_again(mosquitto, subscriber, cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent = cart(broker.port)
    agent.feed(1)
    agent.start()
    wait_for(lambda: len(watcher.findings()) == 1)
    (dropped,) = agent.drop.iterdir()
    (agent.drop / "later").mkdir()
    dropped.rename(agent.drop / "later" / "other.png")
    agent.feed(1, 2)
    wait_for(lambda: len(watcher.findings()) == 2)
    time.sleep(0.5)
    assert len(watcher.findings()) == 2
    assert agent.end() == 0


def test_every_frame_of_a_video_file_is_found_once(mosquitto, subscriber, cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent = cart(broker.port)
    path = agent.folder / "clip.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 64))
    for number in range(30):
        video.write(cv2.cvtColor(agent.picture("lesion", number, 64), cv2.COLOR_GRAY2BGR))
    video.release()
    agent.config["sources"] = [{"kind": "capture", "name": "clip", "url": "clip.avi"}]
    agent.start()
    wait_for(lambda: len(watcher.findings()) == 30)
    assert agent.end() == 0
    assert [finding["frame"] for finding in watcher.findings()] == list(range(30))
    assert len({finding["case_code"] for finding in watcher.findings()}) == 1
    agent.start()
    wait_for(lambda: [event["code"] for event in watcher.json("/up/event")].count("source_ended") == 2)
    assert agent.end() == 0
    assert len(watcher.findings()) == 30


def test_commands_are_answered_once_and_nonsense_is_told(mosquitto, subscriber, cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent = cart(broker.port)
    agent.start()
    wait_for(lambda: watcher.topics("/up/birth"))
    now = datetime.now(timezone.utc).isoformat()
    down = "scanwright/clinic/cart-1/down/command/"
    order = {"correlation_id": "1", "issued_at": now, "nonce": "nonce-00001"}
    watcher.publish(down + "ping", json.dumps(order))
    watcher.publish(down + "ping", json.dumps(order))
    watcher.publish(down + "status", json.dumps(order | {"nonce": "nonce-00002"}))
    watcher.publish(down + "explode", json.dumps(order | {"nonce": "nonce-00003"}))
    watcher.publish(down + "ping", "nonsense")
    wait_for(lambda: watcher.topics("/up/response/explode"))
    wait_for(lambda: "command_invalid" in [event["code"] for event in watcher.json("/up/event")])
    assert [response["ok"] for response in watcher.json("/up/response/ping")] == [True, False]
    status = Response.model_validate(watcher.json("/up/response/status")[0])
    assert status.ok and status.result["bundles"] == "tiny 1.0.0"
    assert not watcher.json("/up/response/explode")[0]["ok"]
    assert agent.end() == 0


def _one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    errors = [line for line in done.stderr.splitlines() if not line.startswith(("INFO: ", "{"))]
    assert done.returncode == code, done.stderr
    assert len(errors) == 1 and all(word in errors[0] for word in words), done.stderr


def test_what_cannot_start_says_so_in_one_line(cart):
    agent = cart(free_port())
    agent.config["allow_unsignd"] = agent.config.pop("allow_unsigned")
    _one_line(agent.command("run"), 2, "agent.yaml", "allow_unsignd", "did you mean 'allow_unsigned'")
    agent.config["allow_unsigned"] = agent.config.pop("allow_unsignd")
    bundle = agent.folder / "tiny.swb"
    data = bytearray(bundle.read_bytes())
    data[data.find(b"model.tflite") + 200] ^= 1
    bundle.write_bytes(data)
    _one_line(agent.command("run"), 2, "tiny.swb", "model.tflite")


def test_two_agents_do_not_share_a_state_folder(cart):
    agent = cart(free_port())
    agent.start()
    wait_for(lambda: agent.waiting() == 0)
    _one_line(agent.command("run"), 1, "in use by another agent", str(agent.process.pid))
    assert agent.end(signal.SIGINT) == 0


def test_the_agent_needs_no_tensorflow_and_little_memory(mosquitto, subscriber, cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent = cart(broker.port)
    agent.config["screen"] = {"port": free_port()}
    agent.config["health_s"] = 0.2
    agent.feed(*range(5))
    agent.start()
    wait_for(lambda: len(watcher.findings()) == 5)
    wait_for(lambda: watcher.json("/up/health")[-1]["findings"] == 5)
    maps = Path(f"/proc/{agent.process.pid}/maps").read_text()
    assert "tensorflow/" not in maps and "tf_keras" not in maps
    assert watcher.json("/up/health")[-1]["memory_mb"] < 150
    before = _cpu_s(agent.process.pid)
    time.sleep(2)
    assert _cpu_s(agent.process.pid) - before < 0.2
    assert agent.end() == 0


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
