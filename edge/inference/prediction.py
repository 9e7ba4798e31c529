"""Prediction: what a model's outputs say of one image, before any decision."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Prediction"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """Raw, dequantized model outputs of one image.

    ``logits[C]``; ``cam[h, w, C]``, ``embedding[D]`` and ``mask[H, W, K]`` where the model has them;
    ``layout[L]`` of the image (see :func:`edge.inference.ood.layout`) where the bundle judges it.
    ``quality`` holds the image measures of ``edge.imaging.quality``; ``elapsed_ms`` the time of each stage.
    """

    logits: Floats
    cam: Floats | None = None
    embedding: Floats | None = None
    mask: Floats | None = None
    layout: Floats | None = None
    quality: dict[str, float] = field(default_factory=dict)
    elapsed_ms: dict[str, float] = field(default_factory=dict)
