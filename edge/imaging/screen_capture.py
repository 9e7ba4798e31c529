"""Pictures of a machine's screen: the video input's own test picture, and the scan within the rest."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edge.imaging.frame import Pixels

__all__ = ["Box", "find_scan", "shows_no_signal"]

_SAMPLED_SIDE = 96
_PURE = 100  # max(R, G, B) - min(R, G, B) from which a colour is one that only test pictures have
_SAME = 0.85  # share of one pure colour: a blue screen, with or without a text in it
_BARS = 0.6  # share of pure colours among columns that do not change downwards
_EVEN = 6  # what noise and compression leave of a column that does not change
_DARK = 12  # gray value up to which a screen's background goes
_LEAST_SHARE = 0.08  # of the picture that a scan covers
_TEXT = 9  # pixels of a picture 480 high: strokes of letters and lines are thinner, and break off
_FILLED = 0.35  # least share of its box that a scan fills


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, the ends not included."""

    top: int
    left: int
    bottom: int
    right: int

    def of(self, pixels: Pixels) -> Pixels:
        """The part of a picture inside."""
        return np.ascontiguousarray(pixels[self.top : self.bottom, self.left : self.right])


def shows_no_signal(pixels: Pixels) -> bool:
    """Whether a capture device shows its own picture: one pure colour, or colour bars (EBU, SMPTE).

    Args:
        pixels: uint8 RGB ``[H, W, 3]``; gray ``[H, W]`` never is one (an even gray picture is blank).
    """
    if pixels.ndim == 2:
        return False
    stride = max(1, min(pixels.shape[:2]) // _SAMPLED_SIDE)
    sampled = np.ascontiguousarray(pixels[::stride, ::stride])
    pure = np.ptp(sampled, axis=2) >= _PURE
    if pure.mean() < min(_SAME, _BARS) / 2:  # as most pictures are: nothing more to look at
        return False
    codes, counts = np.unique((sampled[pure] >> 5) @ np.array([1, 8, 64]), return_counts=True)
    if codes.size and counts.max() >= _SAME * pure.size:
        return True
    upper = sampled[: sampled.shape[0] // 2].astype(np.float32)
    even = (upper.std(axis=0) < _EVEN).all(axis=1)
    colours = np.unique(np.round(upper.mean(axis=0)[even] / 32), axis=0)
    return bool(even.mean() > 0.9 and pure[: len(upper)].mean() >= _BARS and 5 <= len(colours) <= 24)


def find_scan(pixels: Pixels) -> Box | None:
    """Where on the picture of an ultrasound machine's screen the scan is: its largest filled area.

    What is lighter than the background is thinned until letters, scales and lines fall off; the largest
    connected area that is left, grown back, is the scan if it is large and filled enough.

    Args:
        pixels: uint8 ``[H, W]`` or RGB ``[H, W, 3]``.
    """
    gray = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    height, width = gray.shape
    scale = min(1.0, 240 / min(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    light = (cv2.medianBlur(small, 5) > _DARK).astype(np.uint8)
    kernel = np.ones((max(3, round(_TEXT * min(size) / 480)),) * 2, np.uint8)
    # Speckle has dark gaps: they are closed before thin things are broken off.
    solid = cv2.morphologyEx(light, cv2.MORPH_CLOSE, kernel)
    thick = cv2.morphologyEx(solid, cv2.MORPH_OPEN, np.ones((2 * len(kernel) + 1,) * 2, np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(thick)
    if count < 2:
        return None
    left, top, wide, tall, area = (int(value) for value in max(stats[1:], key=lambda row: row[4]))
    if area < _LEAST_SHARE * thick.size or area < _FILLED * wide * tall:
        return None
    return Box(
        int(top / scale),
        int(left / scale),
        min(height, int(np.ceil((top + tall) / scale))),
        min(width, int(np.ceil((left + wide) / scale))),
    )
