"""What exactness costs: the Steps against OpenCV's own conversion and resize, as JSON.

Both sides run in turn on the same image, one thread; ``ratio`` is the median time of the Steps over that of
``cv2.cvtColor`` with ``cv2.resize(..., INTER_AREA)``, which gives no two boards the same pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from statistics import median
from time import perf_counter

import cv2
import numpy as np

from edge.bundle.steps import Grayscale, Resize, Step
from edge.imaging.frame import Pixels
from edge.imaging.steps import apply_steps

ROUNDS = 200
SOURCES = {"vga_rgb": (480, 640, 3), "vga_gray": (480, 640), "radiograph_gray": (2048, 2048)}
TARGET = 224


def _opencv(pixels: Pixels) -> None:
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels
    cv2.resize(gray, (TARGET, TARGET), interpolation=cv2.INTER_AREA)


def _milliseconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return (perf_counter() - start) * 1e3


def _compare(shape: tuple[int, ...]) -> dict[str, float]:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    steps: list[Step] = [Grayscale(), Resize(height=TARGET, width=TARGET)]
    times = [
        (_milliseconds(lambda: apply_steps(pixels, steps)), _milliseconds(lambda: _opencv(pixels)))
        for _ in range(ROUNDS)
    ]
    ours, theirs = (median(column) for column in zip(*times[ROUNDS // 10 :], strict=True))
    return {"steps_ms": round(ours, 3), "opencv_ms": round(theirs, 3), "ratio": round(ours / theirs, 2)}


if __name__ == "__main__":
    cv2.setNumThreads(1)
    print(json.dumps({name: _compare(shape) for name, shape in SOURCES.items()}, indent=2))
