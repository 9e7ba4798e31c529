"""Where the model looked, and what it outlined: heat map and outlines, alone and over the picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.frame import Pixels

__all__ = ["heat_map", "outline_png", "overlay_png"]

_OPACITY = 0.6  # at the peak; elsewhere in proportion, so that what did not matter stays as it was
_OUTLINES = ((0, 214, 255), (255, 200, 60), (200, 120, 255), (90, 230, 120))  # BGR, of the classes in turn


def heat_map(cam: NDArray[np.float32], height: int, width: int) -> Pixels:
    """The map at the picture's size, between its points linear: its peak is 255, what is not above 0 is 0.

    Args:
        cam: float32 ``[h, w]``, one class's activation (Zhou et al. 2016), any scale.
        height, width: of the result, pixels.

    Returns:
        uint8 ``[height, width]``; all 0 where nothing is above 0.
    """
    peak = float(cam.max())
    if not peak > 0:
        return np.zeros((height, width), np.uint8)
    scaled = np.rint(np.maximum(cam, 0) * (255 / peak)).astype(np.uint8)
    return np.asarray(cv2.resize(scaled, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def overlay_png(pixels: Pixels, cam: NDArray[np.float32]) -> bytes:
    """The picture with the heat map blended over it, as a PNG file in colour.

    The file holds pixels and nothing else: no header of the source, no text, no time.

    Args:
        pixels: uint8 ``[H, W]`` or RGB ``[H, W, 3]``.
        cam: float32 ``[h, w]``.
    """
    heat = heat_map(cam, *pixels.shape[:2])
    picture = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR if pixels.ndim == 2 else cv2.COLOR_RGB2BGR)
    colours = cv2.applyColorMap(heat, cv2.COLORMAP_PLASMA)
    opacity = (heat * np.float32(_OPACITY / 255))[:, :, None]
    blended = picture + opacity * (colours.astype(np.float32) - picture)
    return bytes(cv2.imencode(".png", np.rint(blended).astype(np.uint8))[1])


def outline_png(pixels: Pixels, masks: Sequence[NDArray[np.bool_]]) -> bytes:
    """The picture with the edge of each mask drawn into it, as a PNG file in colour, as :func:`overlay_png`.

    What lies inside an edge stays as it was, so that the picture can be judged.

    Args:
        pixels: uint8 ``[H, W]`` or RGB ``[H, W, 3]``.
        masks: ``[H, W]`` each, of the classes in their order.
    """
    picture = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR if pixels.ndim == 2 else cv2.COLOR_RGB2BGR)
    thickness = max(1, round(max(pixels.shape[:2]) / 320))
    for number, mask in enumerate(masks):
        edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        colour = _OUTLINES[number % len(_OUTLINES)]
        cv2.drawContours(picture, edges, -1, colour, thickness, cv2.LINE_AA)
    return bytes(cv2.imencode(".png", picture)[1])
