"""Which part of a frame the model sees, so that what it says of a place is shown at that place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle.steps import Crop, Pad, Resize, Step
from edge.imaging.frame import Pixels

__all__ = ["Region", "seen_region"]


@dataclass(frozen=True)
class Region:
    """A rectangle in fractions of a frame; it reaches beyond 0..1 where the steps pad."""

    top: float
    left: float
    height: float
    width: float

    def place(self, row: float, column: float) -> tuple[float, float]:
        """Where a place of the region is in the frame, both in fractions; padding goes to the edge."""
        down, across = self.top + row * self.height, self.left + column * self.width
        return min(max(down, 0.0), 1.0), min(max(across, 0.0), 1.0)

    def only(self, pixels: Pixels) -> Pixels:
        """A picture of the frame, of any size, black where the region is not."""
        height, width = pixels.shape[:2]
        top, left = max(0, round(self.top * height)), max(0, round(self.left * width))
        bottom, right = round((self.top + self.height) * height), round((self.left + self.width) * width)
        kept = np.zeros_like(pixels)
        kept[top:bottom, left:right] = pixels[top:bottom, left:right]
        return kept

    def spread(self, cam: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
        """A map ``[h, w]`` of the region as one ``[height, width]`` of the frame, 0 outside the region."""
        rows, columns = cam.shape
        # From a pixel of the frame to a point of the map, both counted from pixel centres.
        across, down = columns / (width * self.width), rows / (height * self.height)
        matrix = np.array(
            [
                [across, 0, across / 2 - self.left * columns / self.width - 0.5],
                [0, down, down / 2 - self.top * rows / self.height - 0.5],
            ]
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        placed = cv2.warpAffine(cam, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        y = (np.arange(height) + 0.5) / height
        x = (np.arange(width) + 0.5) / width
        inside_y = (y >= self.top) & (y <= self.top + self.height)
        inside_x = (x >= self.left) & (x <= self.left + self.width)
        return np.asarray(placed * np.outer(inside_y, inside_x), np.float32)


def seen_region(steps: Sequence[Step], height: int, width: int) -> Region:
    """The region that is left of a frame of ``height x width`` pixels after the steps."""
    top, left, tall, wide = 0.0, 0.0, 1.0, 1.0
    rows, columns = height, width
    for step in steps:
        above, before, new_rows, new_columns = 0, 0, rows, columns
        if isinstance(step, Crop):
            above, before = step.top * rows // 1000, step.left * columns // 1000
            new_rows = rows - above - step.bottom * rows // 1000
            new_columns = columns - before - step.right * columns // 1000
        elif isinstance(step, Pad):
            new_rows = new_columns = max(rows, columns)
            above, before = -((new_rows - rows) // 2), -((new_columns - columns) // 2)
        elif isinstance(step, Resize):
            rows, columns = step.height, step.width
            continue
        top, left = top + above * tall / rows, left + before * wide / columns
        tall, wide = tall * new_rows / rows, wide * new_columns / columns
        rows, columns = new_rows, new_columns
    return Region(top, left, tall, wide)
