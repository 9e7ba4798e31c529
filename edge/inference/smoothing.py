"""Decisions over time: from the probabilities of a stream's frames to observations that begin and end.

Pure rules. Each label's probability is smoothed exponentially (Brown 1959) from 0, the newest frame weighing
``WEIGHT``. An observation begins when the smoothed value has been at the label's threshold or above for
``LEAST_FRAMES`` frames in a row, and ends when it has been below ``off_threshold`` for as many. With these
numbers a probability that alternates around its threshold, however widely, begins one observation at most:
its smoothed value swings by 0.18 of the alternation, which is less than the margin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "LEAST_FRAMES",
    "MARGIN",
    "UPDATE_S",
    "WEIGHT",
    "Change",
    "Observation",
    "Smoothing",
    "off_threshold",
]

WEIGHT = 0.3
LEAST_FRAMES = 3
MARGIN = 0.1
UPDATE_S = 2.0  # least time between two updates of an observation


@dataclass(frozen=True)
class Observation:
    """A label seen for a while. ``first`` and ``best`` are keys of frames; ``probability`` is the best one's,
    the greatest of all its frames; ``frames`` counts from the first to the newest."""

    label: str
    first: str
    best: str
    probability: float
    frames: int


@dataclass(frozen=True)
class Change:
    """An observation is new, has a better frame than was told, or is over."""

    kind: Literal["started", "updated", "ended"]
    observation: Observation


def off_threshold(threshold: float) -> float:
    """The smoothed value below which an observation ends: ``MARGIN`` lower, but never lower than half."""
    return max(threshold - MARGIN, threshold / 2)


class Smoothing:
    """Follows the frames of one stream under one model.

    Args:
        thresholds: the labels to follow, with the probability from which each is positive (0..1).
    """

    def __init__(self, thresholds: Mapping[str, float]) -> None:
        self._labels = {label: _Label(label, threshold) for label, threshold in thresholds.items()}

    def frame(self, key: str, probabilities: Mapping[str, float], at_s: float) -> list[Change]:
        """Take the next frame.

        Args:
            key: what the frame is known by.
            probabilities: by label, 0..1; a label that is missing (no result) counts as not seen.
            at_s: a monotonic time in seconds.
        """
        changes = (
            label.take(key, probabilities.get(name, 0.0), at_s) for name, label in self._labels.items()
        )
        return [change for change in changes if change]

    def names(self) -> set[str]:
        """Keys of the frames that a later change may name."""
        seen = [observation for label in self._labels.values() if (observation := label.seen)]
        return {key for observation in seen for key in (observation.first, observation.best)}

    def close(self) -> list[Change]:
        """The stream is over: whatever is going on ends."""
        return [change for label in self._labels.values() if (change := label.end())]


class _Label:
    def __init__(self, name: str, threshold: float) -> None:
        self._name, self._on, self._off = name, threshold, off_threshold(threshold)
        self._smoothed = 0.0
        self._begun = False
        self._low = 0  # frames in a row below the threshold that counts
        self.seen: Observation | None = None  # begun, or perhaps beginning
        self._told, self._told_at = 0.0, 0.0

    def take(self, key: str, probability: float, at_s: float) -> Change | None:
        self._smoothed += WEIGHT * (probability - self._smoothed)
        if not self._begun:
            return self._wait(key, probability, at_s)
        self._add(key, probability)
        self._low = self._low + 1 if self._smoothed < self._off else 0
        if self._low >= LEAST_FRAMES:
            return self.end()
        seen = self.seen
        if seen and seen.probability > self._told and at_s - self._told_at >= UPDATE_S:
            return self._tell("updated", seen, at_s)
        return None

    def end(self) -> Change | None:
        seen, begun = self.seen, self._begun
        self.seen, self._begun, self._low = None, False, 0
        return Change("ended", seen) if seen and begun else None

    def _wait(self, key: str, probability: float, at_s: float) -> Change | None:
        if self._smoothed < self._on:
            self.seen = None
            return None
        seen = self._add(key, probability)
        if seen.frames < LEAST_FRAMES:
            return None
        self._begun = True
        return self._tell("started", seen, at_s)

    def _add(self, key: str, probability: float) -> Observation:
        seen = self.seen or Observation(self._name, key, key, probability, 0)
        if probability > seen.probability:
            seen = replace(seen, best=key, probability=probability)
        self.seen = replace(seen, frames=seen.frames + 1)
        return self.seen

    def _tell(self, kind: Literal["started", "updated"], seen: Observation, at_s: float) -> Change:
        self._told, self._told_at = seen.probability, at_s
        return Change(kind, seen)
