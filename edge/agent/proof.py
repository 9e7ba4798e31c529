"""How a new bundle proves itself: asked about the last real frames unseen, then watched while it is used."""

from __future__ import annotations

import statistics
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.agent.config import UpdateConfig
from edge.agent.model import Model, covers
from edge.bundle.reasons import Reason
from edge.errors import BadInputError
from edge.imaging.frame import Frame
from edge.inference.engine import EngineError
from edge.mqtt.payloads import Finding
from edge.update.release import RefusedError

__all__ = ["Proof", "Recent", "Seen", "Window", "gives_result", "shadow", "try_agent"]

_BYTES = 64 << 20  # of pixels that are remembered
_FEW = 5  # frames below which "on none of them" says nothing
_CHECK_S = 180.0  # for a new agent to try the configuration
_SPARE_MS = 50.0  # so much longer a frame may take whatever the ratio


@dataclass(frozen=True)
class Seen:
    """A frame, and what the bundle in use said of it in how many milliseconds."""

    frame: Frame
    decision: str
    label: str | None
    probabilities: tuple[float, ...]
    elapsed_ms: float


@dataclass(frozen=True)
class Proof:
    """What was seen in the shadow: of so many frames the share decided alike, and the ratio of the times."""

    frames: int
    agreement: float | None = None
    slowdown: float | None = None


class Recent:
    """The last real frames of each bundle, in memory alone and bounded in number and bytes."""

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._seen: dict[str, deque[Seen]] = {}

    def add(self, frame: Frame, finding: Finding) -> None:
        """Remember a frame; practice frames are none."""
        if frame.test or not self._frames:
            return
        kept = self._seen.setdefault(finding.bundle.name, deque(maxlen=self._frames))
        said = tuple(finding.probabilities.values())
        kept.append(Seen(frame, finding.decision, finding.label, said, _total(finding)))
        while len(kept) > 1 and sum(seen.frame.pixels.nbytes for seen in kept) > _BYTES:
            kept.popleft()

    def of(self, name: str) -> list[Seen]:
        """Those of a bundle, oldest first."""
        return list(self._seen.get(name, ()))


def shadow(model: Model, seen: Sequence[Seen], limits: UpdateConfig, go_on: Callable[[], None]) -> Proof:
    """Ask a new bundle about frames that another has decided on; ``go_on`` is called before each.

    Raises:
        RefusedError: it fails, gives no results, does not vary, disagrees or is too slow.
    """
    if not seen:
        return Proof(0)
    alike, results, times, logits = 0, 0, [], []
    for one in seen:
        go_on()
        if not covers(model.manifest.intended_use, one.frame.header):
            continue
        try:
            prediction, outcome = model.look(one.frame)
        except EngineError as error:
            raise RefusedError("engine_failed", f"the interpreter fails on a frame: {error}") from error
        except BadInputError:  # too small an image for its steps
            alike += one.decision == "no_result"
            continue
        alike += (outcome.decision, outcome.label) == (one.decision, one.label)
        results += outcome.decision != "no_result"
        times.append(sum(prediction.elapsed_ms.values()))
        logits.append(prediction.logits)
    before = [one for one in seen if one.decision != "no_result"]
    if len(before) >= _FEW and not results:
        raise RefusedError("no_results", f"no result on any of the last {len(seen)} frames")
    differ = len({one.probabilities for one in before}) > 1
    if len(logits) >= _FEW and differ and not np.ptp(np.stack(logits), axis=0).any():
        raise RefusedError("constant", f"the same outputs for {len(logits)} different frames")
    agreement = alike / len(seen)
    if agreement < limits.agreement:
        least = f"{limits.agreement:.0%} are wanted"
        raise RefusedError("disagrees", f"decides {agreement:.0%} of {len(seen)} frames as before; {least}")
    slowdown = _slowdown(times, [one.elapsed_ms for one in seen], limits)
    return Proof(len(seen), round(agreement, 3), slowdown)


def gives_result(model: Model, frame: Frame) -> bool:
    """Whether a bundle gives a result of a frame."""
    try:
        return model.look(frame)[1].decision != "no_result"
    except (BadInputError, EngineError):
        return False


def try_agent(program: Path, config: Path | None) -> None:
    """Have a new agent check the configuration, without taking a frame.

    Raises:
        RefusedError: it cannot be run, or not with this configuration.
    """
    command = [str(program), "agent", "check", "--config", str(config)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_CHECK_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RefusedError("unusable", f"{program}: cannot be run ({type(error).__name__})") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RefusedError("unusable", f"the new agent cannot use the configuration: {said[:300]}")


class Window:
    """The watch over a new bundle in use. :meth:`verdict` says how it stands."""

    def __init__(self, limits: UpdateConfig, before: Sequence[Seen], now_s: float) -> None:
        """``before``: frames that the bundle before has decided on."""
        self._limits, self._until = limits, now_s + limits.health_s
        self._before = [one.elapsed_ms for one in before]
        self._times: list[float] = []
        self._failed = False
        self._withheld = 0

    def add(self, finding: Finding, *, withheld: bool = False) -> None:
        """Take one of its findings; ``withheld``: it gives no result where the one before gives one."""
        self._failed = self._failed or Reason.ENGINE_FAILED in finding.reasons
        self._withheld += withheld
        self._times.append(_total(finding))

    def verdict(self, now_s: float) -> bool:
        """Whether it is to be committed; False: not yet.

        Raises:
            RefusedError: it must go.
        """
        if self._failed:
            raise RefusedError("engine_failed", "the interpreter failed on a frame")
        seen = len(self._times)
        if self._withheld >= _FEW and 1 - self._withheld / seen < self._limits.agreement:
            said = f"no result on {self._withheld} of {seen} frames where the one before gives results"
            raise RefusedError("no_results", said)
        if seen >= 2 * _FEW:
            _slowdown(self._times, self._before, self._limits)
        return now_s >= self._until


def _slowdown(times_ms: Sequence[float], before_ms: Sequence[float], limits: UpdateConfig) -> float | None:
    """Ratio of the medians; of frames that were not judged no time is taken."""
    times, before = [ms for ms in times_ms if ms > 0], [ms for ms in before_ms if ms > 0]
    if not times or not before:
        return None
    now, usual = statistics.median(times), statistics.median(before)
    most = max(usual * limits.slowdown, usual + _SPARE_MS)
    if now > most:
        raise RefusedError("slow", f"{now:.0f} ms a frame; it was {usual:.0f}, and at most {most:.0f} may be")
    return round(now / usual, 2)


def _total(finding: Finding) -> float:
    parts = ("prepare", "quality", "infer")
    return sum(value for stage, value in finding.elapsed_ms.items() if stage in parts)
