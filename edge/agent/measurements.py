"""What is measured in the masks of a segmentation: areas in each frame, the ejection fraction over a cine."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.agent.model import Model
from edge.imaging.frame import Frame
from edge.imaging.region import seen_region
from edge.inference.ventricle import Cavity, Ejection, cavity, ejection
from edge.mqtt.payloads import Measurement

__all__ = ["Measured", "Measurements"]

_MOST_FRAMES = 300
"""Of a stream that the ejection fraction is taken from; a live one has no end."""


@dataclass(frozen=True)
class Measured:
    """Measurements of a frame; with an ejection fraction, the id of the finding that shows end-diastole."""

    measurements: tuple[Measurement, ...] = ()
    end_diastole: str | None = None


@dataclass
class _Clip:
    identity: str
    frames: deque[tuple[int, str, Cavity | None]] = field(default_factory=lambda: deque(maxlen=_MOST_FRAMES))


class Measurements:
    """Follows the newest stream of each source under each bundle that names a ventricle."""

    def __init__(self) -> None:
        self._clips: dict[tuple[str, str], _Clip] = {}

    def take(self, model: Model, frame: Frame, id_: str, classes: NDArray[np.int64] | None) -> Measured:
        """Measure the next frame.

        Args:
            model: that drew the mask.
            frame: of a stream, in order.
            id_: of its finding.
            classes: indices of labels ``[H, W]``; None where there is no result.
        """
        pixel, unit = _pixel(model, frame, classes)
        found = []
        if classes is not None:
            for index, label in enumerate(model.manifest.labels[1:], start=1):
                area = float((classes == index).sum()) * pixel[0] * pixel[1]
                found.append(Measurement(name="area", label=label, value=round(area, 3), unit=unit["area"]))
        ventricle = model.manifest.ejection_fraction
        if ventricle is None:
            return Measured(tuple(found))
        clip = self._clip(model, frame)
        mask = None if classes is None else classes == model.manifest.labels.index(ventricle)
        clip.frames.append((frame.index, id_, None if mask is None else cavity(mask, pixel)))
        if classes is None:
            return Measured(tuple(found))
        result = ejection([seen for _, _, seen in clip.frames])
        if not isinstance(result, Ejection):
            refused = Measurement(
                name="ejection_fraction", label=ventricle, value=None, unit="%", reason=result.value
            )
            return Measured((*found, refused))
        values = [("ejection_fraction", 100 * result.fraction, "%")]
        if "volume" in unit:
            values.append(("end_diastolic_volume", result.end_diastolic_volume, unit["volume"]))
            values.append(("end_systolic_volume", result.end_systolic_volume, unit["volume"]))
        (diastole, best, _), (systole, _, _) = (
            clip.frames[at] for at in (result.end_diastole, result.end_systole)
        )
        frames = (diastole, systole)
        found += [
            Measurement(name=name, label=ventricle, value=round(value, 1), unit=its_unit, frames=frames)
            for name, value, its_unit in values
        ]
        return Measured(tuple(found), best)

    def _clip(self, model: Model, frame: Frame) -> _Clip:
        identity = frame.identity.rpartition("#")[0]
        key = (frame.source, model.ref.name)
        clip = self._clips.get(key)
        if clip is None or clip.identity != identity:
            clip = self._clips[key] = _Clip(identity)
        return clip


def _pixel(
    model: Model, frame: Frame, classes: NDArray[np.int64] | None
) -> tuple[tuple[float, float], dict[str, str]]:
    """Height and width of a pixel of the mask, in cm where the header says how large the frame's pixels are,
    else in these; with the units (UCUM) that follow."""
    if classes is None:
        return (1.0, 1.0), {}
    height, width = frame.pixels.shape[:2]
    region = seen_region(model.manifest.steps, height, width)
    down, across = region.height * height / classes.shape[0], region.width * width / classes.shape[1]
    header = frame.header
    if header.row_spacing_mm is None or header.column_spacing_mm is None:
        return (down, across), {"area": "{pixel}"}
    return (down * header.row_spacing_mm / 10, across * header.column_spacing_mm / 10), {
        "area": "cm2",
        "volume": "mL",
    }
