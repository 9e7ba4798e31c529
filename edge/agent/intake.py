"""What is done with each item that a source gives: judged, kept, put away or told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from edge.agent.clock import Clock
from edge.agent.health import Counters
from edge.agent.identity import Identity
from edge.agent.model import Model, covering
from edge.agent.observations import Observations
from edge.agent.originals import Originals
from edge.agent.quarantine import Quarantine
from edge.agent.recorder import Recorder
from edge.agent.report import Report, Reporter
from edge.agent.room import NoRoomError
from edge.agent.store import Store
from edge.agent.telling import Telling
from edge.bundle.reasons import Reason
from edge.imaging.frame import Frame
from edge.mqtt.payloads import Event, Finding
from edge.sources.base import Done, Failure, Item, Original

__all__ = ["Intake"]

log = logging.getLogger(__name__)


class Intake:
    """Takes items, one at a time and in order."""

    def __init__(
        self,
        models: Sequence[Model],
        store: Store,
        identity: Identity,
        reporter: Reporter,
        recorder: Recorder,
        telling: Telling,
        observations: Observations,
        originals: Originals,
        quarantine: Quarantine,
        counters: Counters,
        clock: Clock,
        saw: Callable[[Frame, Finding], None] = lambda _frame, _finding: None,
    ) -> None:
        """``saw`` hears of each frame that was judged, and what was found."""
        self._models, self._store, self._identity = models, store, identity
        self._reporter, self._recorder, self._observations = reporter, recorder, observations
        self._telling, self._originals, self._quarantine = telling, originals, quarantine
        self._counters, self._clock, self._saw = counters, clock, saw
        self._failing: set[str] = set()

    def take(self, item: Item) -> None:
        """Do what is to be done with an item.

        Raises:
            NoRoomError: what belongs to it cannot be written for now; it may be given again.
        """
        if isinstance(item, Frame):
            self._judge(item)
        elif isinstance(item, Original):
            self._originals.take(item)
        elif isinstance(item, Failure):
            self._fail(item)
        elif isinstance(item, Done):
            self._recorder.seen(self._identity.mark(key) for key in item.keys)
        else:
            self._recorder.tell(item.severity, item.code, item.message, item.data)

    def _judge(self, frame: Frame) -> None:
        self._count_frame()
        models = covering(self._models, frame.header)
        reason = frame.reason or (None if models else Reason.NOT_COVERED)
        for model in models or self._models[:1]:
            if not frame.live and self._store.seen(self._reporter.finding_id(model, frame)):
                continue
            if reason:
                self._tell(frame, self._reporter.withheld(model, frame, reason))
                continue
            report, error = self._reporter.judged(model, frame)
            name = model.ref.name
            event = None
            if error is None:
                self._failing.discard(name)
                self._counters.inference_ms.append(report.finding.elapsed_ms.get("infer", 0.0))
            elif name not in self._failing:
                self._failing.add(name)
                event = self._recorder.event("error", "engine_failed", str(error), {"bundle": name})
            self._tell(frame, report, event)
            if report.finding.decision != "no_result":
                self._counters.last_result = report.finding.stamp.at
                self._counters.last_case = report.finding.case_code
            self._saw(frame, report.finding)

    def _tell(self, frame: Frame, report: Report, event: Event | None = None) -> None:
        """Of a live frame that says nothing new, no more is kept than an observation may name."""
        self._telling.take(report, event, live=frame.live)
        self._observations.follow(frame, report.finding)
        self._telling.let_go(report.finding, but=self._observations.names(report.finding))

    def _fail(self, failure: Failure) -> None:
        """Keep what gave no frame in the quarantine, say so, and only then take it away."""
        report = self._reporter.withheld(self._models[0], failure, failure.reason)
        id_ = report.finding.id
        try:
            self._quarantine.keep(id_, failure, self._clock.now().isoformat())
        except NoRoomError:
            raise
        except OSError as error:
            log.error("the quarantine cannot be written", extra={"id": id_, "error": error.strerror})
            kept = False
        else:
            kept = True
        self._count_frame()
        event = self._recorder.event(
            "error",
            "quarantined" if kept else "not_quarantined",
            f"source '{failure.source}': no image could be had ({failure.reason.value});"
            + (f" kept in the quarantine as {id_}" if kept else " it stays where it is"),
            {"source": failure.source, "reason": failure.reason.value, "id": id_},
        )
        told = self._recorder.finding(report, event)
        told.add_done_callback(partial(self._put_away, failure, id_ if kept else None))

    def _put_away(self, failure: Failure, kept: str | None, told: Future[int]) -> None:
        if told.exception() is not None:
            return
        self._counters.quarantined += told.result()
        if kept and not self._quarantine.release(failure):
            log.warning("the quarantined file could not be taken out of its folder", extra={"id": kept})

    def _count_frame(self) -> None:
        self._counters.frames += 1
        self._counters.last_frame = self._clock.now()
