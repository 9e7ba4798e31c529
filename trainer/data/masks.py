"""Masks beside their images: what moves an image moves its mask, and which classes a mask shows."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle.steps import Crop, Pad, Resize, Step
from edge.imaging.frame import Pixels
from edge.imaging.steps import apply_steps

__all__ = ["LEAST_SHARE", "move_mask", "presence", "resized"]

LEAST_SHARE = 0.001
"""Share of the image from which a class counts as present: less is a sliver that an edge cut off."""


def move_mask(mask: Pixels, steps: Sequence[Step]) -> Pixels:
    """The mask as the steps leave its image: cropped, padded with background (0), resized.

    Args:
        mask: class indices, uint8 ``[h, w]``, of the size of its image before the steps.
        steps: as a manifest declares them.

    Returns:
        uint8 ``[H, W]``; a resized mask takes the class of the nearest pixel.
    """
    for step in steps:
        if isinstance(step, Resize):
            mask = resized(mask, step.height, step.width)
        elif isinstance(step, Crop):
            mask = apply_steps(mask, [step])
        elif isinstance(step, Pad):
            mask = apply_steps(mask, [step.model_copy(update={"value": 0})])
    return mask


def resized(mask: Pixels, height: int, width: int) -> Pixels:
    """The class of the nearest pixel at each of ``height x width``."""
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def presence(masks: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Which classes each mask shows, as the whole-image logits of a segmentation have it.

    Args:
        masks: class indices, ``[n, H, W]``.
        classes: their number, K.

    Returns:
        0 and 1, ``[n, K]``: a class is present from :data:`LEAST_SHARE` of the image on; class 0, the
        background, where no other is.
    """
    shares = np.stack([(masks == index).mean(axis=(1, 2)) for index in range(classes)], axis=1)
    shown = shares >= LEAST_SHARE
    shown[:, 0] = ~shown[:, 1:].any(axis=1)
    return shown.astype(np.int64)
