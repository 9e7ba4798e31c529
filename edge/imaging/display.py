"""From values of any range to the 8 bits that are shown and judged: one rule."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.imaging.frame import Pixels

__all__ = ["table_to_8_bit"]


def table_to_8_bit(values: NDArray[Any], low: float, high: float) -> Pixels:
    """``low`` becomes 0, ``high`` 255: ``floor(255 * (v - low) / (high - low) + 1/2)``, clamped to 0..255.

    In float64, which is exact for integers of 16 bits. ``high`` below ``low`` reverses; where they are
    equal, nothing can be told apart and all is 0.

    Args:
        values: real numbers, any shape.
        low, high: finite.

    Returns:
        uint8 of the shape of ``values``.
    """
    if high == low:
        return np.zeros(values.shape, np.uint8)
    scaled = np.floor(255 * (values.astype(np.float64) - low) / (high - low) + 0.5)
    return np.clip(scaled, 0, 255).astype(np.uint8)
