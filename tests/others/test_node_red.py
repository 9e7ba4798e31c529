"""A real Node-RED runs the flow that is shipped: an optional check.

SCANWRIGHT_NODE_RED names a folder with it: ``npm install --prefix FOLDER node-red@4``.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import free_port, mosquitto, subscriber, wait_for
from tests.integration.test_monitor import payload

__all__ = ["mosquitto", "subscriber"]  # fixtures

FOLDER = os.environ.get("SCANWRIGHT_NODE_RED")
FLOW = Path(__file__).parents[2] / "firmware_configs/node-red/flow.json"
UP = "scanwright/clinic/cart-1/up"


@pytest.fixture
def node_red(tmp_path: Path) -> Iterator[Any]:
    """``node_red(port)``: the flow at work at a broker; its log."""
    if not FOLDER:
        pytest.skip("SCANWRIGHT_NODE_RED names no folder with Node-RED")
    running: list[subprocess.Popen[bytes]] = []

    def start(port: int) -> Path:
        flow = json.loads(FLOW.read_text(encoding="utf-8"))
        for node in flow:
            if node["type"] == "mqtt-broker":
                node["port"] = str(port)
        (tmp_path / "flow.json").write_text(json.dumps(flow))
        page = str(free_port())
        script = f"{FOLDER}/node_modules/node-red/red.js"
        command = ["node", script, "--userDir", str(tmp_path), "--port", page, str(tmp_path / "flow.json")]
        log = tmp_path / "log"
        with log.open("wb") as file:
            running.append(
                subprocess.Popen(
                    [*command, "-D", "uiHost=127.0.0.1", "-D", "telemetry.enabled=false"],
                    stdout=file,
                    stderr=file,
                )
            )
        wait_for(lambda: "Connected to broker" in log.read_text())
        return log

    yield start
    for one in running:
        one.terminate()
        one.wait(20)


def test_the_flow_tells_new_positives_and_who_is_away(mosquitto, subscriber, node_red):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    watcher.publish(f"{UP}/availability", "online", retain=True)
    log = node_red(broker.port)
    positive = {"decision": "positive", "label": "nodule", "probability": 0.874}
    for number, changes in enumerate(
        [positive, positive | {"test": True}, {}, positive | {"backfill": True}, positive], start=1
    ):
        watcher.publish(f"{UP}/finding", payload(number % 5 or 1, **changes))
    watcher.publish(f"{UP}/finding", "nonsense")
    watcher.publish(f"{UP}/finding", "null")
    watcher.publish(f"{UP}/availability", "offline")
    wait_for(lambda: "availability: 'offline'" in log.read_text())
    said = log.read_text()
    assert said.count("[debug:to people: findings]") == 1, said
    assert "clinic/cart-1: nodule (87 %), case AAAA-0001" in said
    assert said.count("[debug:late findings]") == 1
    assert said.count("availability: 'online'") == 1
    assert "TypeError" not in said
