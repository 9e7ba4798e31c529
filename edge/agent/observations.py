"""What is seen over several frames of a stream or a cine, told as events beside each frame's finding."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge.agent.recorder import Recorder
from edge.imaging.frame import Frame
from edge.inference.smoothing import Change, Smoothing
from edge.mqtt.payloads import Finding

__all__ = ["Observations"]


_CODES = {
    "started": "observation_started",
    "updated": "observation_updated",
    "ended": "observation_ended",
}


@dataclass
class _Stream:
    identity: str
    smoothing: Smoothing
    finding: Finding  # the newest
    at_s: float


class Observations:
    """Follows the newest stream of each source under each bundle; a still image is a stream of one frame, and
    begins nothing.

    A stream is over when another begins, or after a silence.
    """

    def __init__(
        self,
        recorder: Recorder,
        silence_s: float,
        monotonic: Callable[[], float] = time.monotonic,
        about_to_name: Callable[[Iterable[str]], None] = lambda _ids: None,
    ) -> None:
        """``about_to_name`` gets the ids of findings before an event names them."""
        self._recorder, self._silence_s, self._monotonic = recorder, silence_s, monotonic
        self._about_to_name = about_to_name
        self._streams: dict[tuple[str, str], _Stream] = {}

    def follow(self, frame: Frame, finding: Finding) -> None:
        """Take the finding of a stream's next frame; one that no model judged begins no stream."""
        if frame.test:
            return
        identity, now = frame.identity.rpartition("#")[0], self._monotonic()
        key = (frame.source, finding.bundle.name)
        stream = self._streams.get(key)
        if stream is None or stream.identity != identity:
            if stream:
                self._close(self._streams.pop(key))
            if not finding.thresholds:
                return
            stream = self._streams[key] = _Stream(identity, Smoothing(finding.thresholds), finding, now)
        stream.finding, stream.at_s = finding, now
        for change in stream.smoothing.frame(finding.id, finding.probabilities, now):
            self._tell(stream, change)

    def names(self, finding: Finding) -> set[str]:
        """Ids of the findings that a later event of this finding's source and bundle may name."""
        stream = self._streams.get((finding.source, finding.bundle.name))
        return stream.smoothing.names() if stream else set()

    def settle(self, everything: bool = False) -> None:
        """End what has been silent for too long, or everything."""
        now = self._monotonic()
        for key, stream in list(self._streams.items()):
            if everything or now - stream.at_s > self._silence_s:
                self._close(self._streams.pop(key))

    def _close(self, stream: _Stream) -> None:
        for change in stream.smoothing.close():
            self._tell(stream, change)

    def _tell(self, stream: _Stream, change: Change) -> None:
        seen, finding = change.observation, stream.finding
        self._about_to_name((seen.first, seen.best))
        self._recorder.tell(
            "info",
            _CODES[change.kind],
            f"case {finding.case_code}: '{seen.label}' {change.kind}, at most {seen.probability:.2f}",
            {
                "source": finding.source,
                "bundle": finding.bundle.name,
                "case_code": finding.case_code,
                "study": finding.study,
                "label": seen.label,
                "first": seen.first,
                "best": seen.best,
                "probability": seen.probability,
                "frames": seen.frames,
            },
        )
