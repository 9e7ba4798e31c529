"""A real Home Assistant discovers a real cart: an optional check.

SCANWRIGHT_HOME_ASSISTANT names an environment that has it (Python 3.13, about 600 MB), with what its
manifests of frontend, conversation, assist_pipeline, stream, cloud and mqtt ask for. Tried with
2025.4.4.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import free_port, make_cart, mosquitto, subscriber, wait_for

__all__ = ["make_cart", "mosquitto", "subscriber"]  # fixtures

ENVIRONMENT = os.environ.get("SCANWRIGHT_HOME_ASSISTANT")


@pytest.fixture
def home_assistant(tmp_path: Path) -> Iterator[Any]:
    """``home_assistant(port)``: a real one at the broker, which says every state below ``seen/``."""
    if not ENVIRONMENT:
        pytest.skip("SCANWRIGHT_HOME_ASSISTANT names no environment with Home Assistant")
    running: list[subprocess.Popen[bytes]] = []

    def start(port: int) -> Path:
        folder = tmp_path / "home-assistant"
        (folder / ".storage").mkdir(parents=True)
        (folder / "configuration.yaml").write_text(
            f"homeassistant:\n  name: test\nhttp:\n  server_port: {free_port()}\n  server_host: 127.0.0.1\n"
            "mqtt_statestream:\n  base_topic: seen\nlogger:\n  default: warning\n"
        )
        entry = {
            "created_at": "2026-01-01T00:00:00+00:00",
            "modified_at": "2026-01-01T00:00:00+00:00",
            "data": {"broker": "127.0.0.1", "port": port},
            "disabled_by": None,
            "discovery_keys": {},
            "domain": "mqtt",
            "entry_id": "scanwrighttest",
            "minor_version": 2,
            "options": {"discovery": True},
            "pref_disable_new_entities": False,
            "pref_disable_polling": False,
            "source": "user",
            "subentries": [],
            "title": "broker",
            "unique_id": None,
            "version": 1,
        }
        kept = {
            "version": 1,
            "minor_version": 5,
            "key": "core.config_entries",
            "data": {"entries": [entry]},
        }
        (folder / ".storage" / "core.config_entries").write_text(json.dumps(kept))
        command = [f"{ENVIRONMENT}/bin/hass", "--config", str(folder), "--skip-pip"]
        with (folder / "log").open("wb") as log:
            running.append(subprocess.Popen(command, stdout=log, stderr=log))
        return folder / "log"

    yield start
    for one in running:
        one.terminate()
        one.wait(60)


def test_a_real_home_assistant_shows_the_cart(mosquitto, subscriber, make_cart, home_assistant):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    cart = make_cart(broker.port)
    cart.config["mqtt"] |= {"discovery_prefix": "homeassistant"}
    cart.config["health_s"] = 1
    cart.start()
    log = home_assistant(broker.port)

    def shows(domain: str, name: str, state: str | None = None) -> bool:
        states = watcher.topics(f"seen/{domain}/scanwright_clinic_cart_1_{name}/state")
        return bool(states) and (state is None or states[-1].decode() == state)

    try:
        wait_for(lambda: shows("binary_sensor", "connected", "on"), 120)
        cart.feed(1)
        wait_for(lambda: shows("sensor", "last_finding", "positive"), 30)
        wait_for(lambda: shows("sensor", "backlog", "0"), 30)
        wait_for(lambda: shows("binary_sensor", "problem"), 30)
        assert cart.end() == 0
        wait_for(lambda: shows("binary_sensor", "connected", "off"), 30)
        wait_for(lambda: shows("sensor", "backlog", "unavailable"), 30)
    except AssertionError as error:
        raise AssertionError(log.read_text()[-3000:]) from error
    lines = log.read_text().splitlines()
    assert [line for line in lines if "components.mqtt" in line and ("ERROR" in line or "WARN" in line)] == []
