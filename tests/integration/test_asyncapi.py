"""What the real agent says over a real broker is what the AsyncAPI document says it says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
from asyncapi_checks import document, validate_payload

from tests.integration.conftest import wait_for

pytestmark = pytest.mark.integration

UP = {name for name, channel in document()["channels"].items() if "/up/" in channel["address"]}


@pytest.fixture
def agent(tmp_path: Path, tiny_bundle: Callable[..., Path]) -> Iterator[Callable[[int], subprocess.Popen]]:
    """``agent(port)``: the agent in a process of its own, over the folder ``tmp_path / "inbox"``."""
    processes: list[subprocess.Popen] = []

    def start(port: int) -> subprocess.Popen:
        (tmp_path / "inbox").mkdir()
        config = {
            "site": "test",
            "device": "cart-1",
            "state": "state",
            "bundles": [str(tiny_bundle(tmp_path / "tiny.swb"))],
            "allow_unsigned": True,
            "sources": [{"kind": "folder", "path": "inbox", "settle_s": 0.1, "poll_s": 0.1}],
            "mqtt": {"port": port},
            "screen": None,
            "health_s": 0.5,
            "overlays": "always",
        }
        path = tmp_path / "agent.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [sys.executable, "-m", "edge.cli", "agent", "run", "--config", str(path)]
        with (tmp_path / "agent.log").open("wb") as log:
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait(10)


def test_everything_the_agent_says_is_as_documented(
    tmp_path: Path,
    agent: Callable[[int], subprocess.Popen],
    mosquitto: Callable[..., Any],
    subscriber: Callable[[int], Any],
    picture: Callable[..., Any],
):
    broker = mosquitto()
    broker.start()
    everything = subscriber(broker.port)
    process = agent(broker.port)
    wait_for(lambda: everything.topics("/up/birth"))
    for kind in ("normal", "lesion", "foreign", "blank"):
        cv2.imwrite(str(tmp_path / "inbox" / f"{kind}.png"), picture(kind, side=64))
    (tmp_path / "inbox" / "notes.png").write_text("this is no picture", encoding="utf-8")
    for name in ("ping", "no-such-command"):
        order = {
            "correlation_id": f"c-{name}",
            "issued_at": datetime.now(timezone.utc).isoformat(),
            "nonce": f"nonce-{name}",
        }
        topic = f"scanwright/test/cart-1/down/command/{name}"
        assert validate_payload(topic, json.dumps(order).encode()) == "command"
        everything.publish(topic, json.dumps(order))
    wait_for(lambda: len({finding["id"] for finding in everything.findings()}) == 5)
    wait_for(lambda: len(everything.topics("/up/response/ping")) == 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0, (tmp_path / "agent.log").read_text(encoding="utf-8")
    wait_for(lambda: everything.topics("/up/availability")[-1] == b"offline")

    seen = {validate_payload(topic, payload) for topic, payload in everything.messages if "/up/" in topic}
    assert seen == UP
    decisions = sorted(finding["decision"] for finding in everything.findings())
    assert decisions == ["negative", "no_result", "no_result", "no_result", "positive"]
