"""The images that set the quantization ranges."""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Calibration

__all__ = ["calibration_images", "full_range"]


class _Images(Protocol):
    """uint8 ``[n, H, W, C]`` with targets ``[n, K]`` of zeros and ones."""

    @property
    def pixels(self) -> NDArray[np.uint8]: ...

    @property
    def targets(self) -> NDArray[np.float32]: ...


def calibration_images(train: _Images, count: int, seed: int) -> tuple[NDArray[np.uint8], Calibration]:
    """At most ``count`` training images, evenly from the labels, and what the manifest keeps of them."""
    random = np.random.default_rng(seed)
    queues = [list(random.permutation(np.flatnonzero(column > 0.5))) for column in train.targets.T]
    unlabelled = np.flatnonzero(~(train.targets > 0.5).any(axis=1))
    queues.append(list(random.permutation(unlabelled)))
    chosen: dict[int, None] = {}
    while len(chosen) < count and any(queues):
        for queue in queues:
            if queue and len(chosen) < count:
                chosen.setdefault(int(queue.pop()))
    images = np.ascontiguousarray(train.pixels[list(chosen)])
    return images, Calibration(count=len(images), sha256=hashlib.sha256(images.tobytes()).hexdigest())


def full_range(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The images ``[n, H, W, C]`` with black and white in two corners of the first.

    That gives the input its full range, hence for our networks scale 1/128 and zero point 0, and leaves the
    ranges inside a network alone, which whole images of black and white would stretch.
    """
    marked: NDArray[np.uint8] = images.copy()
    marked[0, 0, 0], marked[0, -1, -1] = 0, 255
    return marked
