"""Preprocessing: what each Step of ``edge.bundle.steps`` computes, exact to the last bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import gcd
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle.steps import Crop, Denoise, Grayscale, Invert, Normalize, Pad, Resize, Rgb, Step
from edge.imaging.frame import Pixels

__all__ = ["apply_steps"]

Integers = NDArray[Any]

# Weights over 2^15: sums are multiples of 2^-15 below 2^8, so float32 holds each exactly, in any order.
_LUMA = np.array([[9798, 19235, 3735, 16384]], np.float32) / 32768
_PERIOD = 64  # inputs: with more, most of the products are with weights of 0
_BAND = 1 << 18  # samples worked on at once: they stay in the cache, and a large image costs no memory


def apply_steps(pixels: Pixels, steps: Sequence[Step]) -> Pixels:
    """Apply ``steps`` in order.

    Args:
        pixels: uint8 ``[H, W]`` or ``[H, W, 3]`` (RGB), not empty. It is not changed.
        steps: as a manifest declares them; their definition is in ``edge.bundle.steps``.

    Returns:
        uint8 ``[H, W]`` or ``[H, W, 3]``, C-contiguous; the input itself where no step changes it.

    Raises:
        ValueError: ``pixels`` is not such an array.
    """
    colour = pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or colour) or pixels.size == 0:
        raise ValueError(f"expected uint8 [H, W] or [H, W, 3], got {pixels.dtype} {list(pixels.shape)}")
    for step in steps:
        pixels = _apply(pixels, step)
    return np.ascontiguousarray(pixels)


def _apply(pixels: Pixels, step: Step) -> Pixels:
    if isinstance(step, Resize):
        return _resize(pixels, step)
    if isinstance(step, Grayscale):
        return _grayscale(pixels) if pixels.ndim == 3 else pixels
    if isinstance(step, Rgb):
        return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    if isinstance(step, Invert):
        return ~pixels
    if isinstance(step, Crop):
        return _crop(pixels, step)
    if isinstance(step, Pad):
        return _pad(pixels, step.value)
    if isinstance(step, Denoise):
        return np.asarray(cv2.medianBlur(pixels, step.kernel), np.uint8)
    return _normalize(pixels, step)


def _grayscale(pixels: Pixels) -> Pixels:
    # Not cvtColor: its 8-bit weights differ between builds (15 bits here, 14 in OpenCV's Arm code).
    gray = np.empty(pixels.shape[:2], np.uint8)
    for rows in _bands(pixels.shape[0], pixels.shape[1]):
        gray[rows] = cv2.transform(pixels[rows].astype(np.float32), _LUMA)
    return gray


def _bands(count: int, row_size: int) -> Iterator[slice]:
    step = max(1, _BAND // row_size)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _crop(pixels: Pixels, step: Crop) -> Pixels:
    height, width = pixels.shape[:2]
    bottom = height - step.bottom * height // 1000
    right = width - step.right * width // 1000
    return pixels[step.top * height // 1000 : bottom, step.left * width // 1000 : right]


def _pad(pixels: Pixels, value: int) -> Pixels:
    height, width = pixels.shape[:2]
    side = max(height, width)
    padded = np.full((side, side, *pixels.shape[2:]), value, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    padded[top : top + height, left : left + width] = pixels
    return padded


def _normalize(pixels: Pixels, step: Normalize) -> Pixels:
    cumulative = np.cumsum(_histogram(pixels))
    low = int(np.argmax(1000 * cumulative > step.low * pixels.size))
    high = int(np.argmax(1000 * cumulative >= step.high * pixels.size))
    if high <= low:
        return pixels
    clamped = np.clip(np.arange(256), low, high) - low
    table = (510 * clamped + (high - low)) // (2 * (high - low))
    return np.asarray(cv2.LUT(pixels, table.astype(np.uint8)), np.uint8)


def _histogram(pixels: Pixels) -> NDArray[np.int64]:
    rows = np.ascontiguousarray(pixels).reshape(pixels.shape[0], -1)
    counts = np.zeros(256, np.int64)
    for band in _bands(*rows.shape):  # calcHist counts in float32, exact to 2^24
        counts += cv2.calcHist([rows[band]], [0], None, [256], [0, 256])[:, 0].astype(np.int64)
    return counts


def _resize(pixels: Pixels, step: Resize) -> Pixels:
    height, width = pixels.shape[:2]
    if (height, width) == (step.height, step.width):
        return pixels
    resize = _resize_area if step.method == "area" else _resize_linear
    return resize(pixels, step.height, step.width)


class _Cuts(NamedTuple):
    """Where the edges of ``D`` output pixels cut ``S`` inputs: edge ``j`` at ``j*S = input*D + rest``."""

    inputs: NDArray[np.int64]
    rests: NDArray[np.int64]


@lru_cache(maxsize=64)
def _cuts(source: int, target: int) -> _Cuts:
    return _Cuts(*np.divmod(np.arange(target + 1) * source, target))


def _resize_area(pixels: Pixels, height: int, width: int) -> Pixels:
    if _repeats(pixels, height, width):
        return _resize_periodic(pixels, height, width)
    result = np.empty((height, width, *pixels.shape[2:]), np.uint8)
    cuts = _cuts(pixels.shape[0], height)
    # Bands of output rows whose inputs, with the two that each band cuts, have about _BAND samples.
    for rows in _bands(height, -(-pixels.size // height)):
        result[rows] = _area_band(pixels, cuts, rows, width)
    return result


def _repeats(pixels: Pixels, height: int, width: int) -> bool:
    """Whether the weights of a small image repeat so soon that :func:`_resize_periodic` is exact and fast."""
    rows, columns = (size // gcd(size, new) for size, new in zip(pixels.shape, (height, width), strict=False))
    channels = pixels.size // (pixels.shape[0] * pixels.shape[1])
    exact = 255 * rows * columns < 2**24  # every sum is an integer that float32 holds, in any order
    return exact and max(rows, columns * channels) <= _PERIOD and pixels.size <= 4 * _BAND


def _resize_periodic(pixels: Pixels, height: int, width: int) -> Pixels:
    """The sums of ``Resize`` by products with the weights of one period of each axis."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    down, across = _period(pixels.shape[0], height, 1), _period(pixels.shape[1], width, channels)
    rows = pixels.astype(np.float32).reshape(-1, down.shape[1], pixels.shape[1] * channels)
    # One product a period of rows: so small that the library does not share it out among threads, whose
    # waiting for each other costs a busy board more than the product.
    sums = np.matmul(np.matmul(down, rows).reshape(len(rows), -1, across.shape[1]), across.T)
    total = down.shape[1] * across.shape[1] // channels
    return _rounded(sums.astype(np.int32), total).astype(np.uint8).reshape(height, width, *pixels.shape[2:])


@lru_cache(maxsize=64)
def _period(source: int, target: int, channels: int) -> NDArray[np.float32]:
    """Weights ``[target, source] / gcd`` of the outputs after which an axis's weights repeat, by channel."""
    inputs, outputs = source // gcd(source, target), target // gcd(source, target)
    i, j = np.arange(inputs), np.arange(outputs)[:, np.newaxis]
    overlap = np.minimum((j + 1) * inputs, (i + 1) * outputs) - np.maximum(j * inputs, i * outputs)
    return np.kron(np.maximum(overlap, 0), np.eye(channels)).astype(np.float32)


def _area_band(pixels: Pixels, cuts: _Cuts, rows: slice, width: int) -> Integers:
    """The sums of ``Resize``, for some output rows, by differences of cumulative sums along each axis."""
    source_height, source_width = pixels.shape[:2]
    edges = slice(rows.start, rows.stop + 1)
    inputs, rests = cuts.inputs[edges], cuts.rests[edges]
    first, last = int(inputs[0]), min(int(inputs[-1]) + 1, source_height)
    part = pixels[first:last]
    small = 255 * part.shape[0] * part.shape[1] < 2**31
    cumulative = cv2.integral(part, sdepth=cv2.CV_32S if small else cv2.CV_64F)
    total = source_height * source_width  # of the weights; a sum is at most 255 times that
    # Intermediate values may wrap around; the sums, which are differences of them, fit and come out right.
    kind = np.int32 if 256 * total < 2**31 else np.int64
    by_rows = _between(cumulative, inputs - first, rests, len(cuts.inputs) - 1, 0, kind)
    columns = _cuts(source_width, width)
    sums = _between(by_rows, columns.inputs, columns.rests, width, 1, kind)
    return _rounded(sums, total)


def _rounded(sums: Integers, total: int) -> Integers:
    return np.asarray((sums + total // 2) // total)  # that is (2 * sums + total) // (2 * total)


def _between(
    cumulative: Integers,
    inputs: NDArray[np.int64],
    rests: NDArray[np.int64],
    target: int,
    axis: int,
    kind: type[np.int32] | type[np.int64],
) -> Integers:
    """Weighted sums between successive cuts of an axis along which ``cumulative`` starts with 0."""
    last = cumulative.shape[axis] - 1
    at = cumulative.take(inputs, axis).astype(kind)
    step = cumulative.take(np.minimum(inputs + 1, last), axis).astype(kind) - at
    shape = [1] * cumulative.ndim
    shape[axis] = -1
    return np.diff(at * kind(target) + step * rests.astype(kind).reshape(shape), axis=axis)


class _Taps(NamedTuple):
    """Two inputs and their weights for each output pixel."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    rest: NDArray[np.int64]


@lru_cache(maxsize=64)
def _taps(source: int, target: int) -> _Taps:
    position = np.clip((2 * np.arange(target) + 1) * source - target, 0, 2 * target * (source - 1))
    first, rest = np.divmod(position, 2 * target)
    return _Taps(first, np.minimum(first + 1, source - 1), rest)


def _resize_linear(pixels: Pixels, height: int, width: int) -> Pixels:
    result = np.empty((height, width, *pixels.shape[2:]), np.uint8)
    total = 4 * height * width
    down, across = _taps(pixels.shape[0], height), _taps(pixels.shape[1], width)
    for rows in _bands(height, pixels[0].size + result[0].size):
        taps = _Taps(*(table[rows] for table in down))
        sums = _weighted(_weighted(pixels, taps, height, 0), across, width, 1)
        result[rows] = _rounded(sums, total)
    return result


def _weighted(values: Integers, taps: _Taps, target: int, axis: int) -> NDArray[np.int64]:
    shape = [1] * values.ndim
    shape[axis] = -1
    rest = taps.rest.reshape(shape)
    first = values.take(taps.first, axis).astype(np.int64)
    second = values.take(taps.second, axis).astype(np.int64)
    return first * (2 * target - rest) + second * rest
