"""How well masks agree: Dice and intersection over union, in the geometry of the model's output."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Manifest
from edge.bundle.steps import Crop, Pad
from edge.errors import BadInputError
from edge.imaging.frame import Pixels
from edge.imaging.steps import apply_steps

__all__ = ["MaskCounts"]


class MaskCounts:
    """Counts pixels of true and predicted masks over any number of images."""

    def __init__(self, manifest: Manifest) -> None:
        self._labels = manifest.labels
        self._counts = np.zeros((len(self._labels), len(self._labels)), np.int64)
        # What moves the picture moves its mask; padding is background.
        self._steps = [
            step.model_copy(update={"value": 0}) if isinstance(step, Pad) else step
            for step in manifest.steps
            if isinstance(step, Crop | Pad)
        ]

    def add(self, scores: NDArray[np.float32], mask: Pixels) -> None:
        """Count one image.

        Args:
            scores: the model's mask output ``[H, W, K]``; the predicted class is the largest.
            mask: true class indices, uint8 ``[h, w]``; brought to ``H x W`` by the nearest pixel.

        Raises:
            BadInputError: the mask holds an index that is no class.
        """
        height, width, classes = scores.shape
        moved = apply_steps(mask, self._steps)
        known = np.asarray(cv2.resize(moved, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))
        if known.max() >= classes:
            raise BadInputError(f"a mask holds class {known.max()}; the model has {classes}")
        pairs = known.astype(np.int64) * classes + scores.argmax(axis=-1)
        self._counts += np.bincount(pairs.ravel(), minlength=classes**2).reshape(classes, classes)

    def summary(self) -> dict[str, Any]:
        """``dice`` and ``iou``: the means over the classes but the first, the background, that are there.

        ``per_class`` has both for each label; None where neither truth nor prediction has the class.
        """
        per_class: dict[str, dict[str, float | None]] = {}
        for c, label in enumerate(self._labels):
            both = int(self._counts[c, c])
            either = int(self._counts[c].sum() + self._counts[:, c].sum()) - both
            per_class[label] = {
                "dice": 2 * both / (either + both) if either else None,
                "iou": both / either if either else None,
            }
        foreground = [per_class[label] for label in self._labels[1:]]
        means: dict[str, Any] = {}
        for key in ("dice", "iou"):
            defined = [value for figures in foreground if (value := figures[key]) is not None]
            means[key] = float(np.mean(defined)) if defined else None
        return {**means, "confusion": self._counts.tolist(), "per_class": per_class}
