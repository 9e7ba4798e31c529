"""Area and ejection fraction of the left ventricle from the masks of a cine's frames.

Pure rules. Volumes are those of the single-plane area-length method, ``8 A^2 / (3 pi L)`` of the cavity's
area ``A`` and long axis ``L`` in an apical view (Lang et al. 2015, doi:10.1016/j.echo.2014.10.003); the
ejection fraction is ``(EDV - ESV) / EDV``. It is only given where the curve of the volumes shows a whole
contraction, from an end-diastole to an end-systole; otherwise there is a reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Cavity", "Ejection", "Refusal", "cavity", "ejection"]

LEAST_SHARE = 0.002  # of the mask: a smaller cavity is none
LEAST_WHOLE = 0.7  # share of the pixels in the largest piece
LEAST_FRAMES = 8
LEAST_SEEN = 0.75  # share of the frames
LONGEST_GAP = 3  # frames
MOST_CUT_OFF = 0.25  # share of the frames in which the cavity reaches the border
MOST_JUMPS = 0.15  # share of the steps from frame to frame
JUMP = 0.35  # of the cavity's width (square root of its area), and
JUMP_AREA = 1.6  # times the area, from one frame to the next: no heart does that
OUTLIER = 0.25  # of the large volumes
LEAST_STROKE = 0.06  # of the largest volume
LARGEST_FRACTION = 0.9  # a heart that ejects more is none, or was not outlined
SWING = 0.35  # of the range of volumes: that much up or down is a phase of the cycle, less is noise
TURN = 0.05  # of the range: beyond an extreme at the clip's end, that much back shows that it is one
LEAST_SYSTOLE = 3  # frames from end-diastole to end-systole, or the extremes fall between frames

Floats = NDArray[np.float64]


class Refusal(str, Enum):
    """Why there is no ejection fraction. Codes are only ever added."""

    NOT_SEEN = "ventricle_not_seen"
    CUT_OFF = "ventricle_cut_off"
    UNSTEADY = "outline_unsteady"
    NO_BEAT = "no_whole_beat"


@dataclass(frozen=True)
class Cavity:
    """The cavity in one frame: area and long axis, and its centre (down, across), in the unit of ``cavity``'s
    ``pixel``; ``cut_off`` where it reaches the mask's border."""

    area: float
    length: float
    centre: tuple[float, float]
    cut_off: bool

    @property
    def volume(self) -> float:
        """By the single-plane area-length method."""
        return 8 * self.area**2 / (3 * math.pi * self.length)


@dataclass(frozen=True)
class Ejection:
    """``fraction`` 0..1, the median of ``beats`` contractions.

    ``end_diastole`` and ``end_systole`` are the frames of the contraction that gave it, and the volumes are
    that one's, in the cube of the cavities' unit.
    """

    fraction: float
    end_diastole: int
    end_systole: int
    end_diastolic_volume: float
    end_systolic_volume: float
    beats: int


def cavity(mask: NDArray[np.bool_], pixel: tuple[float, float] = (1.0, 1.0)) -> Cavity | None:
    """Measure the largest connected piece of a mask.

    Args:
        mask: ``[H, W]``, where the cavity is.
        pixel: height and width of a pixel of the mask, in whatever unit is wanted.

    Returns:
        None where there is next to nothing, or it lies about in pieces.
    """
    count, pieces, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return None
    sizes = statistics[1:, cv2.CC_STAT_AREA]
    largest = int(sizes.argmax()) + 1
    size = int(sizes.max())
    if size < LEAST_SHARE * mask.size or size < LEAST_WHOLE * sizes.sum():
        return None
    points = np.argwhere(pieces == largest) * np.array(pixel)
    centre = points.mean(axis=0)
    spread, axes = np.linalg.eigh(np.cov((points - centre).T) + np.diag(np.square(pixel)) / 12)
    along = (points - centre) @ axes[:, int(spread.argmax())]
    # From edge to edge of the outermost pixels, not from centre to centre.
    thickness = float(np.abs(axes[:, int(spread.argmax())]) @ np.array(pixel))
    top, left = statistics[largest, cv2.CC_STAT_TOP], statistics[largest, cv2.CC_STAT_LEFT]
    bottom = top + statistics[largest, cv2.CC_STAT_HEIGHT]
    right = left + statistics[largest, cv2.CC_STAT_WIDTH]
    return Cavity(
        area=size * pixel[0] * pixel[1],
        length=float(along.max() - along.min()) + thickness,
        centre=(float(centre[0]), float(centre[1])),
        cut_off=bool(top == 0 or left == 0 or bottom == mask.shape[0] or right == mask.shape[1]),
    )


def ejection(frames: Sequence[Cavity | None]) -> Ejection | Refusal:
    """The ejection fraction of a cine's frames in order, None where no cavity was seen; or why not."""
    seen = [frame for frame in frames if frame is not None]
    if len(frames) < LEAST_FRAMES:
        return Refusal.NO_BEAT
    if len(seen) < LEAST_SEEN * len(frames) or _longest_gap(frames) > LONGEST_GAP:
        return Refusal.NOT_SEEN
    if sum(frame.cut_off for frame in seen) > MOST_CUT_OFF * len(seen):
        return Refusal.CUT_OFF
    jumps = sum(_jumps(a, b) for a, b in pairwise(seen))
    if jumps > MOST_JUMPS * (len(seen) - 1):
        return Refusal.UNSTEADY
    volumes = _smooth(_without_outliers(_filled(frames)))
    if np.ptp(volumes) < LEAST_STROKE * volumes.max():
        return Refusal.NO_BEAT
    found = _contractions(volumes)
    if not found:
        return Refusal.NO_BEAT
    found.sort(key=lambda pair: 1 - volumes[pair.systole] / volumes[pair.diastole])
    chosen = found[(len(found) - 1) // 2]
    fraction = float(np.median([1 - volumes[pair.systole] / volumes[pair.diastole] for pair in found]))
    if fraction > LARGEST_FRACTION:
        return Refusal.UNSTEADY
    return Ejection(
        fraction=fraction,
        end_diastole=chosen.diastole,
        end_systole=chosen.systole,
        end_diastolic_volume=float(volumes[chosen.diastole]),
        end_systolic_volume=float(volumes[chosen.systole]),
        beats=len(found),
    )


class _Contraction(NamedTuple):
    diastole: int
    systole: int


def _longest_gap(frames: Sequence[Cavity | None]) -> int:
    longest = gap = 0
    for frame in frames:
        gap = 0 if frame is not None else gap + 1
        longest = max(longest, gap)
    return longest


def _jumps(a: Cavity, b: Cavity) -> bool:
    moved = math.dist(a.centre, b.centre)
    less, more = sorted((a.area, b.area))
    return moved > JUMP * math.sqrt(more) or more > JUMP_AREA * less


def _filled(frames: Sequence[Cavity | None]) -> Floats:
    """Volumes, those of frames without a cavity between their neighbours'."""
    known = [(number, frame.volume) for number, frame in enumerate(frames) if frame is not None]
    numbers, volumes = zip(*known, strict=True)
    return np.asarray(np.interp(np.arange(len(frames)), numbers, volumes))


def _without_outliers(volumes: Floats) -> Floats:
    """A single frame far off the line between its neighbours, which are alike, comes to lie on it."""
    padded = np.pad(volumes, 1, "reflect")
    before, after = padded[:-2], padded[2:]
    between = (before + after) / 2
    off = np.abs(volumes - between)
    far = OUTLIER * np.quantile(volumes, 0.9)
    return np.where((off > far) & (off > np.abs(before - after)), between, volumes)


def _smooth(volumes: Floats) -> Floats:
    """Savitzky and Golay (1964): a parabola through five frames, which leaves peaks as high as they are."""
    powers = np.vander(np.arange(5.0), 3)
    fit = powers @ np.linalg.pinv(powers)
    smoothed: Floats = np.convolve(volumes, fit[2][::-1], "same")
    smoothed[:2], smoothed[-2:] = (fit @ volumes[:5])[:2], (fit @ volumes[-5:])[-2:]
    return smoothed


def _contractions(volumes: Floats) -> list[_Contraction]:
    """Each end-systole with the end-diastole before it; where that was not seen, with the one after it."""
    extremes, first_is_largest = _extremes(volumes)
    kinds = [(number % 2 == 0) == first_is_largest for number in range(len(extremes))]
    sure = [_is_sure(volumes, extremes, number, kind) for number, kind in enumerate(kinds)]
    found = []
    for number, systole in enumerate(extremes):
        if kinds[number] or not sure[number]:
            continue
        for neighbour in (number - 1, number + 1):
            if 0 <= neighbour < len(extremes) and sure[neighbour]:
                if abs(systole - extremes[neighbour]) >= LEAST_SYSTOLE:
                    found.append(_Contraction(extremes[neighbour], systole))
                break
    return found


def _extremes(volumes: Floats) -> tuple[list[int], bool]:
    """Frames at which the volume turns by :data:`SWING` or more, largest and least in turn, with the clip's
    own first and last; and whether the first is a largest."""
    swing = SWING * np.ptp(volumes)
    extremes: list[int] = []
    rising: bool | None = None
    largest = least = 0
    first_is_largest = True
    for number, volume in enumerate(volumes):
        if rising is not False and volume > volumes[largest]:
            largest = number
        if rising is not True and volume < volumes[least]:
            least = number
        if rising is not False and volume <= volumes[largest] - swing:
            if rising is None:
                first_is_largest = True
            extremes.append(largest)
            rising, least = False, number
        elif rising is not True and volume >= volumes[least] + swing:
            if rising is None:
                first_is_largest = False
            extremes.append(least)
            rising, largest = True, number
    if rising is not None:
        extremes.append(largest if rising else least)
    return extremes, first_is_largest


def _is_sure(volumes: Floats, extremes: Sequence[int], number: int, largest: bool) -> bool:
    """Whether an extreme is an end-diastole or end-systole, and not just where the clip begins or ends.

    Between two others it is. At the ends an end-systole shows by what lies beyond it, as filling sets in at
    once. Filling pauses before the atria contract, so that the last volume may be any; but where the clip
    begins with a contraction, it begins at end-diastole, unless the volume is falling fast already.
    """
    if 0 < number < len(extremes) - 1:
        return True
    at, turn = extremes[number], TURN * np.ptp(volumes)
    beyond = volumes[:at] if number == 0 else volumes[at + 1 :]
    if not largest:
        return len(beyond) > 0 and bool(beyond.max() >= volumes[at] + turn)
    if number > 0:
        return False
    turned = len(beyond) > 0 and bool(beyond.min() <= volumes[at] - turn)
    return turned or bool(volumes[at] - volumes[min(at + 2, len(volumes) - 1)] <= 4 * turn)
