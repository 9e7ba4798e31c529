"""What is said of a frame: the Finding, and the pictures that the screen shows beside it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.agent.clock import Clock
from edge.agent.config import AgentConfig
from edge.agent.identity import Identity
from edge.agent.measurements import Measurements
from edge.agent.model import Model
from edge.bundle.reasons import Reason
from edge.errors import BadInputError
from edge.imaging.frame import Frame, Pixels
from edge.imaging.overlay import heat_map, outline_png, overlay_png
from edge.imaging.region import Region, seen_region
from edge.inference.decision import Outcome
from edge.inference.engine import EngineError
from edge.inference.prediction import Floats, Prediction
from edge.mqtt.payloads import Evidence, Finding
from edge.sources.base import Failure

__all__ = ["Report", "Reporter"]

_HEAT_SIDE = 224  # about, of the longer side of the published heat map
_PICTURE_SIDE = 1024  # longer side of the pictures for the screen


@dataclass(frozen=True)
class Report:
    """A Finding with its pictures, PNG files drawn when they are asked for: ``image`` and ``overlay`` for the
    screen, which stay on the device, and ``heat``, the heat map or the mask alone.

    ``pixels`` is the frame, ``region`` what the model saw of it, ``cam`` float32 ``[h, w]`` where it looked,
    ``mask`` float32 ``[H, W, K]`` what it outlined. ``best`` is the id of the finding that shows the study
    best, where that is not for probabilities to say.
    """

    finding: Finding
    pixels: Pixels | None = None
    region: Region | None = None
    cam: Floats | None = None
    mask: Floats | None = None
    best: str | None = None

    @cached_property
    def shown(self) -> Pixels | None:
        """What the model saw, at the size of a screen, black where it saw nothing."""
        if self.pixels is None or self.region is None:
            return None
        return self.region.only(_for_screen(self.pixels))

    @cached_property
    def image(self) -> bytes | None:
        """The picture; None of what gave no frame."""
        return _png(self.shown) if self.shown is not None else None

    @cached_property
    def overlay(self) -> bytes | None:
        """The picture with what was outlined, or under the heat map; None without either."""
        if self.shown is None or self.region is None:
            return None
        if self.mask is not None:
            return outline_png(self.shown, _outlined(self.mask, self.region, *self.shown.shape[:2]))
        if self.cam is None:
            return None
        return overlay_png(self.shown, self.region.spread(self.cam, *self.shown.shape[:2]))

    @cached_property
    def heat(self) -> bytes | None:
        """The mask (its classes in even steps of gray, the background black), or the heat map of what the
        model saw; without the picture."""
        if self.mask is not None:
            classes = self.mask.argmax(axis=-1) * (255 // (self.mask.shape[-1] - 1))
            return _png(np.asarray(classes, np.uint8))
        if self.cam is None:
            return None
        scale = max(1, _HEAT_SIDE // max(self.cam.shape))
        return _png(heat_map(self.cam, self.cam.shape[0] * scale, self.cam.shape[1] * scale))


class Reporter:
    """Makes Reports of frames and failures."""

    def __init__(self, config: AgentConfig, identity: Identity, clock: Clock) -> None:
        self._config, self._identity, self._clock = config, identity, clock
        self._measurements = Measurements()

    def finding_id(self, model: Model, frame: Frame | Failure) -> str:
        """The id that the finding of a frame has, or will have."""
        return self._identity.finding(model.ref.name, model.ref.version, frame.identity)

    def judged(self, model: Model, frame: Frame) -> tuple[Report, EngineError | None]:
        """What the model says of a frame; if the engine fails, that there is no result, and the error."""
        start = time.perf_counter()
        try:
            prediction, outcome = model.look(frame)
        except EngineError as error:
            return self.withheld(model, frame, Reason.ENGINE_FAILED), error
        except BadInputError:  # a step leaves nothing of so small an image
            return self.withheld(model, frame, Reason.TOO_SMALL), None
        cam = _activation(model, prediction, outcome)
        mask = prediction.mask if outcome.decision != "no_result" else None
        classes = None if mask is None else np.asarray(mask.argmax(axis=-1))
        measured = self._measurements.take(model, frame, self.finding_id(model, frame), classes)
        published = (cam is not None or mask is not None) and (
            self._config.overlays == "always"
            or (self._config.overlays == "positive" and outcome.decision == "positive")
        )
        region = seen_region(model.manifest.steps, *frame.pixels.shape[:2])
        elapsed = prediction.elapsed_ms | {"total": (time.perf_counter() - start) * 1e3}
        finding = self._finding(
            model,
            frame,
            decision=outcome.decision,
            label=outcome.label,
            probability=outcome.probability,
            probabilities=outcome.probabilities,
            thresholds=outcome.thresholds,
            reasons=outcome.reasons,
            evidence=Evidence(
                ood_score=_finite(outcome.ood_score),
                ood_limit=outcome.ood_limit,
                peak=_peak(cam, region) if cam is not None else None,
                quality=prediction.quality,
                area=_areas(model, classes),
                overlay=published,
            ),
            measurements=measured.measurements,
            elapsed_ms={stage: round(value, 3) for stage, value in elapsed.items()},
        )
        return Report(finding, frame.pixels, region, cam, mask, measured.end_diastole), None

    def withheld(self, model: Model, frame: Frame | Failure, reason: Reason) -> Report:
        """That there is no result of a frame, and why."""
        finding = self._finding(model, frame, decision="no_result", reasons=(reason,))
        if isinstance(frame, Failure):
            return Report(finding)
        return Report(finding, frame.pixels, seen_region(model.manifest.steps, *frame.pixels.shape[:2]))

    def _finding(self, model: Model, frame: Frame | Failure, **said: Any) -> Finding:
        return Finding(
            id=self.finding_id(model, frame),
            site=self._config.site,
            device=self._config.device,
            stamp=self._clock.stamp(),
            case_code=self._identity.case_code(frame.study),
            study=self._identity.study(frame.study),
            source=frame.source,
            frame=frame.index if isinstance(frame, Frame) else 0,
            bundle=model.ref,
            policy=model.policy,
            test=isinstance(frame, Frame) and frame.test,
            **said,
        )


def _activation(model: Model, prediction: Prediction, outcome: Outcome) -> Floats | None:
    """The activation map ``[h, w]`` of the label that was named; without one, of none."""
    if prediction.cam is None or outcome.label is None:
        return None
    activation: Floats = prediction.cam[..., model.manifest.labels.index(outcome.label)]
    return activation


def _peak(cam: Floats, region: Region) -> tuple[float, float]:
    row, column = divmod(int(cam.argmax()), cam.shape[1])
    return region.place((row + 0.5) / cam.shape[0], (column + 0.5) / cam.shape[1])


def _outlined(mask: Floats, region: Region, height: int, width: int) -> list[NDArray[np.bool_]]:
    """Where each class of ``mask[H, W, K]`` but the background is in the frame, ``[height, width]`` each."""
    found = []
    for index in range(1, mask.shape[-1]):
        ahead = mask[..., index] - np.delete(mask, index, axis=-1).max(axis=-1)
        found.append(region.spread(ahead, height, width) > 0)
    return found


def _areas(model: Model, classes: NDArray[np.int64] | None) -> dict[str, float] | None:
    """Share of the image that each class ``[H, W]`` covers."""
    if classes is None:
        return None
    return {label: float(np.mean(classes == index)) for index, label in enumerate(model.manifest.labels)}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _for_screen(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = _PICTURE_SIDE / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _png(pixels: Pixels) -> bytes:
    data = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".png", data, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])
