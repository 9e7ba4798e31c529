"""What is done with frames that no model may judge: told, counted against an observation, and not kept."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.agent.cases import Cases
from edge.agent.clock import Clock
from edge.agent.config import AgentConfig
from edge.agent.database import Database
from edge.agent.health import Counters
from edge.agent.identity import Identity
from edge.agent.intake import Intake
from edge.agent.model import Model
from edge.agent.observations import Observations
from edge.agent.originals import Originals
from edge.agent.quarantine import Quarantine
from edge.agent.recorder import Recorder
from edge.agent.report import Reporter
from edge.agent.spool import Spool
from edge.agent.store import Store
from edge.agent.telling import Telling
from edge.agent.vault import Vault
from edge.bundle.reasons import Reason
from edge.imaging.frame import Frame
from edge.mqtt.topics import Topics

SIDE = 512


class Taken:
    """An Intake with a tiny model over a database of its own, at 30 frames a second by its own clock."""

    def __init__(self, folder: Path, bundle: Any, picture: Any) -> None:
        self.now, self.count, self.picture = 0.0, 0, picture
        path = bundle(folder / "tiny.swb")
        model = Model(path, allow_unsigned=True, target=None, threads=1, interpreter="auto")
        said = {"site": "clinic", "device": "cart-1", "state": folder, "bundles": ["x"]}
        config = AgentConfig.model_validate(said | {"sources": [{"kind": "folder", "path": "x"}]})
        self.database = Database(folder / "agent.db")
        identity, clock, vault = Identity(b"k" * 32), Clock(), Vault(b"v" * 32)
        self.recorder = Recorder(self.database, Topics("clinic", "cart-1"), clock)
        telling = Telling(self.recorder, {"probe": 1.0}, lambda: self.now)
        spool = Spool(folder / "spool", self.database, vault, identity, config.spool, forwards=False)
        self.intake = Intake(
            [model],
            Store(self.database),
            identity,
            Reporter(config, identity, clock),
            self.recorder,
            telling,
            Observations(self.recorder, 30, lambda: self.now, telling.tell),
            Originals(Cases(self.database, vault, identity), spool, identity, self.recorder),
            Quarantine(folder / "quarantine", vault),
            Counters(),
            clock,
        )

    def take(self, frames: int, kind: str = "lesion", reason: Reason | None = None) -> None:
        for _ in range(frames):
            pixels = np.array(self.picture(kind, 1, SIDE))
            self.count += 1
            identity = f"live:1#{self.count}"
            self.intake.take(Frame(pixels, identity, "live:1", "probe", reason=reason, live=True))
            self.now += 1 / 30
        self.recorder.settle(everything=True)

    def observed(self) -> list[str]:
        rows = self.database.read("SELECT payload FROM outbox WHERE kind = 'event' ORDER BY seq")
        codes = [json.loads(payload)["code"] for (payload,) in rows]
        return [code.removeprefix("observation_") for code in codes if code.startswith("observation")]


@pytest.fixture
def taken(tmp_path: Path, tiny_bundle: Any, picture: Any) -> Iterator[Taken]:
    made = Taken(tmp_path, tiny_bundle, picture)
    yield made
    made.database.close()


@pytest.mark.parametrize("reason", [Reason.NO_SIGNAL, None])
def test_live_frames_that_say_nothing_new_are_not_kept_in_memory(taken: Taken, reason: Reason | None) -> None:
    taken.take(5, "blank", reason)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    taken.take(60, "blank", reason)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 4 * SIDE * SIDE  # bytes of four of the sixty frames


def test_a_lost_signal_ends_what_was_observed(taken: Taken) -> None:
    taken.take(10)
    assert taken.observed() == ["started"]
    taken.take(20, reason=Reason.NO_SIGNAL)
    assert taken.observed() == ["started", "ended"]


def test_a_stream_that_begins_without_a_signal_is_observed_all_the_same(taken: Taken) -> None:
    taken.take(5, reason=Reason.NO_SIGNAL)
    taken.take(10)
    assert taken.observed() == ["started"]
