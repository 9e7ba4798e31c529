from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.agent.audit import Audit
from edge.agent.clock import Clock
from edge.agent.database import Database
from edge.agent.outbox import Outbox
from edge.agent.recorder import Recorder
from edge.agent.report import Report
from edge.agent.store import Store
from edge.mqtt.payloads import BundleRef, Finding
from edge.mqtt.topics import Topics

_REF = BundleRef(name="b", version="1.0.0", sha256="0" * 64, target="t", signed=False)


class Cart:
    """A recorder on a database that outlives it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.start()

    def start(self) -> None:
        self.database = Database(self._path)
        self.recorder = Recorder(self.database, Topics("s", "d"), Clock())

    def restart(self) -> None:
        self.database.close()
        self.start()

    def find(self, number: int, decision: str, probability: float | None = None, study: int = 0) -> str:
        finding = Finding(
            id=f"{number:032x}",
            site="s",
            device="d",
            stamp=Clock().stamp(),
            case_code=f"AAAA-000{study}",
            study=f"{study:032x}",
            source="x",
            bundle=_REF,
            decision=decision,  # type: ignore[arg-type]
            probability=probability,
        )
        self.recorder.finding(Report(finding))
        return finding.id

    def closed(self, silence_s: float = 0) -> list[dict[str, Any]]:
        self.recorder.close_studies(silence_s)
        self.recorder.settle(everything=True)
        events = [json.loads(message.payload) for message in Outbox(self.database).next(100, "event")]
        return [event["data"] for event in events if event["code"] == "study_closed"]


@pytest.fixture
def cart(tmp_path: Path) -> Iterator[Cart]:
    made = Cart(tmp_path / "agent.db")
    yield made
    made.database.close()


def test_a_silent_study_is_told_once_with_its_counts_and_its_best_finding(cart):
    cart.find(1, "negative", 0.99)
    cart.find(2, "positive", 0.6)
    best = cart.find(3, "positive", 0.8)
    cart.find(4, "no_result")
    assert cart.closed(silence_s=60) == []
    expected = {
        "case_code": "AAAA-0000",
        "study": f"{0:032x}",
        "positive": 2,
        "negative": 1,
        "no_result": 1,
        "best": best,
        "update": False,
    }
    assert cart.closed() == [expected]
    assert cart.closed() == [expected]


def test_a_late_image_makes_an_update_and_a_resent_one_does_not(cart):
    cart.find(1, "negative", 0.9)
    assert len(cart.closed()) == 1
    cart.find(1, "negative", 0.9)
    assert len(cart.closed()) == 1
    best = cart.find(2, "positive", 0.5)
    assert (cart.closed()[-1]["update"], cart.closed()[-1]["best"]) == (True, best)
    assert cart.closed()[-1]["negative"] == 1


def test_a_restart_between_closes_what_was_open_and_nothing_twice(cart):
    cart.find(1, "negative", 0.9, study=1)
    assert len(cart.closed()) == 1
    cart.find(2, "no_result", study=2)
    cart.recorder.settle(everything=True)
    cart.restart()
    assert len(cart.closed(silence_s=60)) == 1
    told = cart.closed()
    assert [event["case_code"] for event in told] == ["AAAA-0001", "AAAA-0002"]
    assert told[-1]["best"] is None
    cart.restart()
    assert len(cart.closed()) == 2


def test_old_studies_are_purged_and_open_ones_never(cart):
    cart.find(1, "negative", study=1)
    cart.closed()
    cart.find(2, "negative", study=2)
    cart.recorder.settle(everything=True)
    Store(cart.database).purge(-1, Audit(cart.database, Clock()))
    assert cart.database.write(lambda c: c.execute("SELECT study FROM study").fetchall()).result() == [
        (f"{2:032x}",)
    ]
