"""Updates without a broker: what is looked for by itself, when, and what must not end the agent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from releases import Releases

from edge.agent import updates as module
from edge.agent.audit import Audit
from edge.agent.clock import Clock
from edge.agent.config import AgentConfig
from edge.agent.database import Database
from edge.agent.model import load_models
from edge.agent.recorder import Recorder
from edge.agent.updates import Updates
from edge.errors import BadInputError, ScanwrightError
from edge.mqtt.meter import Meter
from edge.mqtt.payloads import SlotStatus
from edge.mqtt.topics import Topics
from edge.schema import parse
from edge.update.launch import TRIES, read_state, write_state
from edge.update.slots import Slot


class Cart:
    """The slots of a cart, worked as its agent's loop does."""

    def __init__(self, folder: Path, releases: Releases, *slots: str, **update: Any) -> None:
        said = {
            "site": "clinic",
            "device": "cart-1",
            "target": "raspberry-pi-5",
            "state": str(folder),
            "bundles": [{"slot": name} for name in slots],
            "sources": [{"kind": "folder", "path": "x"}],
            "update": {"repositories": [str(releases.repository)], "root": str(releases.root), **update},
        }
        self.config = parse(json.dumps(said), AgentConfig, "agent.yaml")
        folder.mkdir(exist_ok=True)
        self.folder, self.clock = folder, Clock()

    def start(self) -> None:
        self.database = Database(self.folder / "agent.db")
        recorder = Recorder(self.database, Topics("clinic", "cart-1"), self.clock)
        audit, meter = Audit(self.database, self.clock), Meter(None, lambda: "")
        assert self.config.update
        self.updates = Updates(
            self.config, self.config.update, None, recorder, audit, self.clock, meter, count=True
        )
        self.models = load_models(self.config)
        self.updates.start(self.models, lambda: None)

    def stop(self) -> None:
        self.updates.stop()
        self.database.close()

    def until(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + 60
        while not condition():
            self.updates.look()
            assert time.monotonic() < end
            time.sleep(0.01)

    def slot(self, name: str) -> SlotStatus:
        return next(status for status in self.updates.status() if status.name == name)

    def update(self, **arguments: Any) -> None:
        self.updates.handlers()["update"](arguments)

    def codes(self) -> list[str]:
        self.database.write(lambda _: None).result()
        rows = self.database.read("SELECT payload FROM outbox WHERE kind = 'event' ORDER BY rowid")
        return [json.loads(payload)["code"] for (payload,) in rows]


@pytest.fixture
def releases(tmp_path, tiny_bundle):
    (tmp_path / "hq").mkdir()
    made = Releases(tmp_path / "hq", tiny_bundle)
    made.bundle("1.0.0")
    return made


@pytest.fixture
def cart(tmp_path, releases) -> Iterator[Callable[..., Cart]]:
    made: list[Cart] = []

    def make(*slots: str, **update: Any) -> Cart:
        one = Cart(tmp_path / "cart", releases, *slots, **update)
        one.start()
        made.append(one)
        return one

    yield make
    for one in made:
        one.stop()


def test_all_slots_are_looked_after_by_themselves(cart, releases, tmp_path):
    releases.publish(releases._bundle(tmp_path / "b.swb", name="other", version="1.0.0"))
    one = cart("tiny", "other", automatic=True, look_s=0.1, health_s=0.1)
    assert [model.ref.version for model in one.models] == ["1.0.0", "1.0.0"]
    releases.bundle("1.1.0")
    releases.publish(releases._bundle(tmp_path / "c.swb", name="other", version="1.2.0"))
    one.until(lambda: (one.slot("tiny").result, one.slot("other").result) == ("committed", "committed"))
    assert [model.ref.version for model in one.models] == ["1.1.0", "1.2.0"]


def test_nothing_is_taken_by_itself_outside_of_the_window(cart, releases, monkeypatch):
    monkeypatch.setattr(module, "_within", lambda window, _now: window != "22:00-05:00")
    one = cart("tiny", automatic=True, look_s=0.01, window="22:00-05:00", health_s=0.1)
    releases.bundle("1.1.0")
    for _ in range(50):
        one.updates.look()
        assert one.slot("tiny").state == "idle"
        time.sleep(0.01)
    monkeypatch.setattr(module, "_within", lambda *_: True)
    one.until(lambda: one.slot("tiny").result == "committed")


@pytest.mark.parametrize(
    ("window", "time_", "inside"),
    [
        (None, "12:00", True),
        ("22:00-05:00", "23:59", True),
        ("22:00-05:00", "00:00", True),
        ("22:00-05:00", "05:00", False),
        ("22:00-05:00", "12:00", False),
        ("01:00-05:00", "01:00", True),
        ("01:00-05:00", "00:59", False),
    ],
)
def test_a_window_may_go_over_midnight(window, time_, inside):
    assert module._within(window, datetime.fromisoformat(f"2026-11-26 {time_}")) is inside


@pytest.mark.parametrize("version", ["newest", "1.0", "", 7, "1.0.0-x", "../1.0.0"])
def test_a_version_that_is_none_is_refused_at_once(cart, version):
    one = cart("tiny")
    with pytest.raises(BadInputError, match=r"MAJOR\.MINOR\.PATCH"):
        one.update(name="tiny", version=version)
    assert one.slot("tiny").state == "idle"


def test_a_defect_that_a_release_brings_out_ends_the_update_and_not_the_agent(cart, releases, monkeypatch):
    one = cart("tiny")
    releases.bundle("1.1.0")
    monkeypatch.setattr(module, "shadow", lambda *_: {}["defect"])
    one.update(name="tiny")
    one.until(lambda: one.slot("tiny").result == "refused")
    assert one.slot("tiny").reason == "unusable" and one.slot("tiny").version == "1.0.0"


def test_a_bundle_that_ends_the_process_while_it_is_proven_is_given_up(cart, releases, monkeypatch):
    one = cart("tiny")
    releases.bundle("1.1.0")
    folder = one.folder / "slots/tiny"
    asked = []
    monkeypatch.setattr(module, "shadow", lambda *_: asked.append(read_state(folder).tries) or 1 / 0)
    for start in range(TRIES):
        one.update(name="tiny") if start == 0 else None
        one.until(lambda start=start: len(asked) > start)
        # What the state was when the process ended, in the middle of that:
        one.stop()
        write_state(folder, replace(read_state(folder), wanted="1.1.0", tries=start + 1, result=None))
        one.start()
    one.until(lambda: one.slot("tiny").result == "refused")
    assert asked == [1, 2, 3] and one.slot("tiny").reason == "crashed"


def test_a_disk_that_cannot_be_written_keeps_the_bundle_and_the_wish(cart, releases, monkeypatch):
    one = cart("tiny")
    releases.bundle("1.1.0")
    one.update(name="tiny")
    put = Slot.put

    def full(slot: Slot, state: Any) -> None:
        if state.trial:
            raise ScanwrightError("slots: cannot be written (No space left on device)")
        put(slot, state)

    monkeypatch.setattr(Slot, "put", full)
    one.until(lambda: "update_waiting" in one.codes())
    assert one.models[0].ref.version == "1.0.0" and read_state(one.folder / "slots/tiny").wanted
