"""The real agent as a process, against a real mosquitto: nothing is lost, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.mqtt.payloads import Birth, Event, Finding, Health, Response
from tests.integration.carts import PATIENT, Cart
from tests.integration.conftest import Mosquitto, Subscriber, free_port, wait_for

pytestmark = pytest.mark.integration


def _ids(watcher: Subscriber) -> set[str]:
    return {finding["id"] for finding in watcher.findings()}


def test_frames_become_findings_and_a_stop_is_clean(mosquitto, subscriber, make_cart):
    broker: Mosquitto = mosquitto()
    broker.start()
    watcher: Subscriber = subscriber(broker.port)
    agent: Cart = make_cart(broker.port)
    agent.config["health_s"] = 0.3
    agent.config["overlays"] = "positive"
    agent.config["interpreter"] = "onnxruntime"  # for which the bundle has nothing
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
    told = [Event.model_validate(event).code for event in watcher.json("/up/event")]
    assert {"bundle_unsigned", "not_accelerated"} <= set(told)
    assert watcher.topics("/up/availability") == [b"online", b"offline"]

    told = b"".join(payload for _, payload in watcher.messages).decode("latin1") + agent.log.read_text()
    assert PATIENT not in told
    lines = [line for line in agent.log.read_text().splitlines() if not line.startswith("INFO: ")]
    assert all(json.loads(line)["message"] for line in lines)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_killed_broker_loses_no_finding(mosquitto, subscriber, make_cart, protocol):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent = make_cart(broker.port)
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


def test_an_agent_killed_at_any_moment_tells_every_frame_and_none_as_another(
    mosquitto, subscriber, make_cart
):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent = make_cart(broker.port)
    fed = 0
    for told in (1, 50, 110):
        agent.start()
        agent.feed(*range(fed, fed + 40))
        fed += 40
        wait_for(lambda told=told: len(_ids(watcher)) >= told)
        agent.end(signal.SIGKILL)
    wait_for(lambda: watcher.topics("/up/availability")[-1:] == [b"offline"])  # the last will
    agent.start()
    wait_for(lambda: watcher.topics("/up/availability")[-1:] == [b"online"])
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


def test_an_agent_runs_without_a_broker_and_tells_later(mosquitto, subscriber, make_cart):
    broker = mosquitto()
    agent = make_cart(broker.port)
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


def test_broken_files_are_quarantined_and_told_and_the_next_frame_is_found(mosquitto, subscriber, make_cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent = make_cart(broker.port)
    (agent.drop / f"{PATIENT}-text.png").write_text("this is no picture")
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
    assert PATIENT not in "".join(str(message) for message in watcher.messages) + agent.log.read_text()


def test_the_same_picture_under_another_name_is_not_told_again(mosquitto, subscriber, make_cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent = make_cart(broker.port)
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


def test_every_frame_of_a_video_file_is_found_once(mosquitto, subscriber, make_cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent = make_cart(broker.port)
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


def test_commands_are_answered_once_and_nonsense_is_told(mosquitto, subscriber, make_cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent = make_cart(broker.port)
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


def test_a_heat_map_is_published_when_it_is_asked_for(mosquitto, subscriber, make_cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent = make_cart(broker.port)
    agent.config["overlays"] = "demand"
    agent.start()
    agent.feed(1)
    (finding,) = wait_for(watcher.findings, 60)
    assert not finding["evidence"]["overlay"]
    topic = f"/up/overlay/{finding['id']}"

    def ask(number: int, id_: str) -> dict[str, Any]:
        now = datetime.now(timezone.utc).isoformat()
        order = {"correlation_id": str(number), "issued_at": now, "nonce": f"nonce-0000{number}"}
        payload = json.dumps(order | {"arguments": {"id": id_}})
        watcher.publish("scanwright/clinic/cart-1/down/command/overlay", payload)
        answered = "/up/response/overlay"
        return wait_for(
            lambda: [r for r in watcher.json(answered) if r["correlation_id"] == str(number)], 60
        )[0]

    assert not ask(1, "0" * 32)["ok"]
    assert not watcher.topics(topic)
    assert ask(2, finding["id"])["ok"]
    (heat,) = wait_for(lambda: watcher.topics(topic), 60)
    assert agent.end() == 0
    decoded = cv2.imdecode(np.frombuffer(heat, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.ndim == 2 and decoded.max() > 200 and max(decoded.shape) <= 224


def _one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    errors = [line for line in done.stderr.splitlines() if not line.startswith(("INFO: ", "{"))]
    assert done.returncode == code, done.stderr
    assert len(errors) == 1 and all(word in errors[0] for word in words), done.stderr


def test_what_cannot_start_says_so_in_one_line(make_cart):
    agent = make_cart(free_port())
    agent.config["allow_unsignd"] = agent.config.pop("allow_unsigned")
    _one_line(agent.command("run"), 2, "agent.yaml", "allow_unsignd", "did you mean 'allow_unsigned'")
    agent.config["allow_unsigned"] = agent.config.pop("allow_unsignd")
    bundle = agent.folder / "tiny.swb"
    data = bytearray(bundle.read_bytes())
    data[data.find(b"model.tflite") + 200] ^= 1
    bundle.write_bytes(data)
    _one_line(agent.command("run"), 2, "tiny.swb", "model.tflite")


def test_two_agents_do_not_share_a_state_folder(make_cart):
    agent = make_cart(free_port())
    agent.start()
    wait_for(lambda: agent.waiting() == 0)
    _one_line(agent.command("run"), 1, "in use by another agent", str(agent.process.pid))
    assert agent.end(signal.SIGINT) == 0


def test_the_agent_needs_no_tensorflow_and_little_memory(mosquitto, subscriber, make_cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent = make_cart(broker.port)
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
