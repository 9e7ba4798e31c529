from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from edge.agent.clock import Clock
from edge.agent.config import AgentConfig
from edge.agent.database import Database
from edge.agent.observations import Observations
from edge.agent.outbox import Outbox
from edge.agent.recorder import Recorder
from edge.agent.service import Agent
from edge.agent.state import DATABASE
from edge.imaging.frame import Frame
from edge.inference.smoothing import Change
from edge.mqtt.payloads import Event, Finding
from edge.mqtt.topics import Topics
from edge.sources.base import Item

ROOT = Path(__file__).parents[3]


def told(database: Database) -> list[Event]:
    waiting = Outbox(database).next(1000, "event")
    events = [Event.model_validate_json(message.payload) for message in waiting]
    return [event for event in events if event.code.startswith("observation_")]


class Cine:
    """A source of one cine, and of stills of one study."""

    name = "probe"

    def __init__(self, picture) -> None:
        self._picture = picture

    def frames(self, stop: threading.Event) -> Iterator[Item]:
        for index in range(24):
            pixels = self._picture("lesion" if 6 <= index < 16 else "normal", index)
            yield Frame(pixels, f"sop:1.2.3#{index}", "study", self.name, index)
        for index in range(6):
            yield Frame(self._picture("lesion", index), f"sop:1.2.{index + 4}#0", "study", self.name)


def test_the_agent_tells_what_a_cine_shows_once_and_nothing_of_stills(tmp_path, tiny_bundle, picture):
    config = AgentConfig.model_validate(
        {
            "site": "clinic",
            "device": "cart-1",
            "state": tmp_path / "state",
            "bundles": [tiny_bundle(tmp_path / "tiny.swb")],
            "allow_unsigned": True,
            "sources": [{"kind": "folder", "path": tmp_path}],
            "mqtt": {"port": 9},
            "screen": None,
        }
    )
    agent, stop = Agent(config, [Cine(picture)]), threading.Event()
    thread = threading.Thread(target=agent.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 20
    while agent.store.sequence() < 30 and time.monotonic() < deadline:
        time.sleep(0.02)
    stop.set()
    thread.join()
    database = Database(tmp_path / "state" / DATABASE)
    events = told(database)
    findings = {message.id: json.loads(message.payload) for message in Outbox(database).next(100, "finding")}
    database.close()
    assert len(findings) == 30, "each frame keeps its own finding"
    assert [event.code for event in events] == ["observation_started", "observation_ended"]
    started, ended = (event.data for event in events)
    assert (ended["label"], ended["source"], ended["first"]) == ("lesion", "probe", started["first"])
    best = findings[ended["best"]]
    seen = [finding for finding in findings.values() if 6 <= finding["frame"] < 16]
    assert ended["probability"] == best["probability"] == max(f["probabilities"]["lesion"] for f in seen)
    assert best["case_code"] == ended["case_code"]


@pytest.fixture
def database(tmp_path) -> Iterator[Database]:
    opened = Database(tmp_path / "agent.db")
    yield opened
    opened.close()


def finding(n: int, p: float) -> Finding:
    stamp = {"at": "2026-11-02T00:00:00Z", "clock_trusted": True, "monotonic_s": 1, "boot_id": "b"}
    bundle = {"name": "tiny", "version": "1.0.0", "sha256": "a" * 64, "target": "phone", "signed": False}
    said = {"site": "s", "device": "d", "case_code": "ABCD-EFGH", "study": "b" * 32, "source": "probe"}
    numbers = {"probabilities": {"lesion": p}, "thresholds": {"lesion": 0.5}, "decision": "positive"}
    return Finding.model_validate(said | numbers | {"id": f"{n:032x}", "stamp": stamp, "bundle": bundle})


def frame(n: int, stream: str = "live:1", test: bool = False) -> Frame:
    return Frame(None, f"{stream}#{n}", "study", "probe", n, test=test)  # type: ignore[arg-type]


def test_a_silence_a_new_stream_and_the_stop_each_end_what_is_seen(database):
    now = [0.0]
    recorder = Recorder(database, Topics("s", "d"), Clock())
    observations = Observations(recorder, 30, lambda: now[0])

    def show(stream: str) -> None:
        for n in range(8):
            observations.follow(frame(n, stream), finding(n, 0.9))

    show("live:1")
    now[0] = 29
    observations.settle()
    recorder.settle(everything=True)
    assert [event.code for event in told(database)] == ["observation_started"]
    now[0] = 31
    observations.settle()
    show("live:2")
    show("live:3")
    observations.settle(everything=True)
    recorder.settle(everything=True)
    assert [event.code for event in told(database)] == ["observation_started", "observation_ended"] * 3


def test_practice_frames_are_not_followed(database):
    recorder = Recorder(database, Topics("s", "d"), Clock())
    observations = Observations(recorder, 30)
    for n in range(8):
        observations.follow(frame(n, test=True), finding(n, 0.9))
    observations.settle(everything=True)
    recorder.settle(everything=True)
    assert told(database) == []


def test_its_codes_are_documented():
    page = (ROOT / "docs/reference/mqtt.md").read_text(encoding="utf-8")
    kinds = get_args(get_type_hints(Change)["kind"])
    assert len(kinds) == 3 and all(f"`observation_{kind}`" in page for kind in kinds)
