"""What is told of live frames: what is new, now and then, and what an observation names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.agent.clock import Clock
from edge.agent.database import Database
from edge.agent.observations import Observations
from edge.agent.recorder import Recorder
from edge.agent.report import Report
from edge.agent.store import Store
from edge.agent.telling import Telling
from edge.imaging.frame import Frame
from edge.mqtt.payloads import BundleRef, Finding
from edge.mqtt.topics import Topics

_BUNDLE = BundleRef(name="tiny", version="1.0.0", sha256="0" * 64, target="raspberry-pi-5", signed=False)


class Stream:
    """A recorder with what stands before it, and a clock that is moved by hand."""

    def __init__(self, folder: Path) -> None:
        self.now, self.count = 0.0, 0
        self.database = Database(folder / "agent.db")
        self.recorder = Recorder(self.database, Topics("clinic", "cart"), Clock())
        self.telling = Telling(self.recorder, {"probe": 1.0}, lambda: self.now)
        self.seen = Observations(self.recorder, 30, lambda: self.now, self.telling.tell)

    def take(self, probability: float, live: bool = True, picture: object = None) -> str:
        id_ = f"{self.count:032x}"
        self.count += 1
        finding = Finding(
            id=id_,
            site="clinic",
            device="cart",
            stamp=Clock().stamp(),
            case_code="0000-0000",
            study="0" * 32,
            source="probe",
            bundle=_BUNDLE,
            decision="positive" if probability >= 0.5 else "negative",
            label="lesion" if probability >= 0.5 else "normal",
            probabilities={"lesion": probability, "normal": 1 - probability},
            thresholds={"lesion": 0.5},
        )
        self.telling.take(Report(finding), live=live)
        frame = Frame(picture, f"live:1#{id_}", "live:1", "probe", live=live)  # type: ignore[arg-type]
        self.seen.follow(frame, finding)
        self.telling.let_go(finding, but=self.seen.names(finding))
        self.now += 1 / 30
        return id_

    def told(self) -> list[str]:
        self.recorder.settle(everything=True)
        return [stored.id for stored in reversed(Store(self.database).latest(1000, pictures=False))]

    def held(self) -> int:
        return sum(map(len, self.telling._held.values()))


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    made = Stream(tmp_path)
    yield made
    made.database.close()


def test_of_a_file_every_frame_is_told(stream: Stream) -> None:
    taken = [stream.take(0.1, live=False) for _ in range(50)]
    assert stream.told() == taken


def test_the_same_finding_is_told_once_a_second(stream: Stream) -> None:
    for _ in range(95):  # a little more than three seconds
        stream.take(0.1)
    assert len(stream.told()) == 4 and stream.held() == 0


def test_another_finding_is_told_at_once_and_a_flickering_one_not_each_time(stream: Stream) -> None:
    first, second = stream.take(0.1), stream.take(0.9)
    assert stream.told() == [first, second]
    for number in range(58):
        stream.take(0.9 if number % 2 else 0.1)
    assert 4 <= len(stream.told()) <= 6


def test_what_an_observation_names_is_told_and_nothing_else_is_held_for_long(stream: Stream) -> None:
    taken = [stream.take(0.1)]
    for number in range(200):
        taken.append(stream.take(0.5 + min(number, 150) / 400))
        assert stream.held() <= 2
    for _ in range(30):
        taken.append(stream.take(0.05))
    stream.seen.settle(everything=True)
    told = set(stream.told())
    events = stream.database.read("SELECT payload FROM outbox WHERE kind = 'event'")
    named = [json.loads(payload)["data"] for (payload,) in events]
    assert {event["label"] for event in named} == {"lesion"}
    assert len(named) >= 4
    assert all({event["first"], event["best"]} <= told for event in named)
    assert len(told) < len(taken) / 5
    assert stream.held() == 0
