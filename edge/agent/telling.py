"""What of a stream is told: frames come faster than anybody wants to hear of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from edge.agent.recorder import Recorder
from edge.agent.report import Report
from edge.mqtt.payloads import Event, Finding

__all__ = ["Telling"]

_Said = tuple[object, ...]


class Telling:
    """Records the findings of files one and all, and of live frames those that say something new.

    A live finding is told if its decision, label and reasons were not told of its source and bundle within
    the last ``tell_s`` seconds. One that is not told is held for as long as an observation may name it.
    """

    def __init__(
        self,
        recorder: Recorder,
        tell_s: Mapping[str, float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``tell_s`` by the names of sources."""
        self._recorder, self._tell_s, self._monotonic = recorder, tell_s, monotonic
        self._told: dict[tuple[str, str], dict[_Said, float]] = {}
        self._held: dict[tuple[str, str], dict[str, Report]] = {}

    def take(self, report: Report, event: Event | None = None, *, live: bool) -> None:
        """Record a finding, or hold it."""
        finding = report.finding
        if not live or event is not None or self._is_new(finding):
            self._recorder.finding(report, event)
        else:
            self._held.setdefault(_stream(finding), {})[finding.id] = report

    def tell(self, ids: Iterable[str]) -> None:
        """Record those of these findings that are held: an event is about to name them."""
        for id_ in ids:
            for held in self._held.values():
                if (report := held.pop(id_, None)) is not None:
                    self._recorder.finding(report)

    def let_go(self, finding: Finding, but: Iterable[str]) -> None:
        """Hold no longer what came of a finding's source and bundle, but these."""
        held = self._held.get(_stream(finding))
        if held:
            kept = set(but)
            self._held[_stream(finding)] = {id_: held[id_] for id_ in held if id_ in kept}

    def _is_new(self, finding: Finding) -> bool:
        now, told = self._monotonic(), self._told.setdefault(_stream(finding), {})
        said = (finding.decision, finding.label, finding.reasons)
        if now - told.get(said, float("-inf")) < self._tell_s.get(finding.source, 0.0):
            return False
        told[said] = now
        return True


def _stream(finding: Finding) -> tuple[str, str]:
    return finding.source, finding.bundle.name
