"""What GET /metrics answers is the text format 0.0.4, as Prometheus documents it."""

from __future__ import annotations

import re
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

from screen_store import BUNDLE, Filled, make_config

from edge.agent import metrics
from edge.agent.config import AgentConfig, ScreenConfig
from edge.agent.screen import ScreenServer
from edge.agent.service import Agent
from edge.mqtt.payloads import Health, Stamp

ROOT = Path(__file__).parents[3]
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
_SAMPLE = re.compile(rf"({_NAME})(?:\{{((?:{_LABEL}(?:,{_LABEL})*)?)\}})? (\S+)")
_KINDS = {"counter", "gauge", "histogram", "summary", "untyped"}


def parsed(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by name; fails where a line is not of the format, or a family is not in one block."""
    assert text.endswith("\n")
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    kinds: dict[str, str] = {}
    family = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
            assert family not in kinds and re.fullmatch(_NAME, family) and len(line.split(" ", 3)) == 4
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family and kind in _KINDS and name not in samples
            kinds[name] = kind
        else:
            found = _SAMPLE.fullmatch(line)
            assert found, line
            name, labels, value = found.groups()
            assert name == family and name in kinds
            pairs = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""))
            known = samples.setdefault(name, [])
            assert pairs not in [other for other, _ in known], "the same sample twice"
            known.append((pairs, float(value)))
            assert (kinds[name] == "counter") == name.endswith("_total")
    return samples


def health(**changes: object) -> Health:
    stamp = Stamp(at="2026-11-02T00:00:00Z", clock_trusted=True, monotonic_s=5, boot_id="b")
    counts = {"frames": 3, "findings": 2, "quarantined": 1, "backlog": 7}
    measures = {"uptime_s": 1.5, "load": 0.25, "disk_free_mb": 1000.5, "memory_mb": 90.25}
    return Health.model_validate({"stamp": stamp} | counts | measures | changes)


KNOWN = {
    "backlog_oldest_s": 12,
    "last_frame": "2026-11-02T00:00:01Z",
    "last_result": "2026-11-02T00:00:01Z",
    "inference_ms": 2.5,
    "temperature_celsius": 61,
    "disk_days": 10,
    "storage_wear_percent": 30,
    "certificate_days": 2,
    "metered_bytes": 5000,
    "throttling": ["under_voltage"],
    "refusing": True,
}


def test_every_figure_is_there_in_base_units_and_the_unknown_is_left_out(tmp_path):
    config = make_config(tmp_path)
    full = health(**KNOWN)
    found = parsed(metrics.exposition(full, True, config, [BUNDLE]))
    device = {"site": "north-clinic", "device": "cart-7"}
    assert found["scanwright_frames_total"] == [(device, 3)]
    assert found["scanwright_inference_seconds"] == [(device, 0.0025)]
    assert found["scanwright_disk_free_bytes"] == [(device, 1000.5e6)]
    assert found["scanwright_temperature_celsius"] == [(device, 61)]
    assert found["scanwright_last_frame_timestamp_seconds"] == [(device, 1793577601)]
    assert found["scanwright_broker_connected"] == [(device, 1)]
    assert found["scanwright_certificate_seconds"] == [(device, 2 * 86400)]
    assert found["scanwright_storage_wear_ratio"] == [(device, 0.3)]
    assert found["scanwright_throttled"] == found["scanwright_refusing_images"] == [(device, 1)]
    ((bundle, one),) = found["scanwright_bundle_info"]
    assert (bundle["bundle"], bundle["signed"], one) == ("chest-phantom", "false", 1)
    without = parsed(metrics.exposition(health(), False, config, [BUNDLE]))
    assert set(found) - set(without) == {
        "scanwright_outbox_oldest_seconds",
        "scanwright_last_frame_timestamp_seconds",
        "scanwright_inference_seconds",
        "scanwright_temperature_celsius",
        "scanwright_last_result_timestamp_seconds",
        "scanwright_disk_full_in_seconds",
        "scanwright_storage_wear_ratio",
        "scanwright_certificate_seconds",
        "scanwright_metered_bytes",
    }
    assert without["scanwright_broker_connected"] == [(device, 0)]


def test_every_figure_is_documented(tmp_path):
    full = health(**KNOWN)
    found = parsed(metrics.exposition(full, True, make_config(tmp_path), [BUNDLE]))
    page = (
        (ROOT / "docs/reference/prometheus.md").read_text(encoding="utf-8").partition("## The monitor's")[0]
    )
    assert set(re.findall(r"`(scanwright_\w+)`", page)) == set(found)


def get(url: str) -> tuple[int, str, str]:
    host = url.removeprefix("http://").strip("/")
    deadline = time.monotonic() + 10
    while True:
        connection = HTTPConnection(host, timeout=10)
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_the_running_agent_answers_with_its_own_figures(tmp_path, tiny_bundle):
    (tmp_path / "drop").mkdir()
    config = AgentConfig.model_validate(
        {
            "site": "clinic",
            "device": "cart-1",
            "state": tmp_path / "state",
            "bundles": [tiny_bundle(tmp_path / "tiny.swb")],
            "allow_unsigned": True,
            "sources": [{"kind": "folder", "path": tmp_path / "drop"}],
            "mqtt": {"port": 9},
            "screen": {"port": 0},
        }
    )
    agent, stop = Agent(config), threading.Event()
    thread = threading.Thread(target=agent.run, args=(stop,))
    thread.start()
    assert agent.screen
    status, kind, text = get(agent.screen.url)
    stop.set()
    thread.join()
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = parsed(text)
    assert found["scanwright_broker_connected"][0][1] == 0
    assert found["scanwright_memory_bytes"][0][1] > 10e6
    assert found["scanwright_bundle_info"][0][0]["bundle"] == "tiny"


def test_a_screen_without_an_agent_has_no_figures(tmp_path):
    filled = Filled(tmp_path)
    server = ScreenServer(filled.store, filled.config, ScreenConfig(port=0), [BUNDLE], lambda: False)
    server.start()
    assert get(server.url)[0] == 404
    server.stop()
    filled.database.close()
