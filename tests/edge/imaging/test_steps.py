"""Steps against their definition, written out pixel by pixel in Python integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.bundle.steps import Crop, Denoise, Grayscale, Invert, Normalize, Pad, Resize, Rgb, Step
from edge.imaging.frame import Pixels
from edge.imaging.steps import apply_steps

Plane = list[list[int]]
Planes = list[Plane]


def reference(pixels: Pixels, step: Step) -> Pixels:
    """``step`` as its docstring in ``edge.bundle.steps`` words it."""
    stacked = pixels[:, :, None] if pixels.ndim == 2 else pixels
    planes: Planes = [stacked[:, :, c].tolist() for c in range(stacked.shape[2])]
    planes = _REFERENCE[step.op](planes, step)
    result = np.array(planes, np.uint8).transpose(1, 2, 0)
    return result[:, :, 0] if len(planes) == 1 else result


def _grayscale(planes: Planes, _: Any) -> Planes:
    if len(planes) == 1:
        return planes
    return [
        [
            [(9798 * r + 19235 * g + 3735 * b + 16384) >> 15 for r, g, b in zip(*rows, strict=True)]
            for rows in zip(*planes, strict=True)
        ]
    ]


def _rgb(planes: Planes, _: Any) -> Planes:
    return planes * 3 if len(planes) == 1 else planes


def _map(planes: Planes, function: Callable[[int], int]) -> Planes:
    return [[[function(p) for p in row] for row in plane] for plane in planes]


def _invert(planes: Planes, _: Any) -> Planes:
    return _map(planes, lambda p: 255 - p)


def _crop(planes: Planes, step: Crop) -> Planes:
    height, width = len(planes[0]), len(planes[0][0])
    rows = range(step.top * height // 1000, height - step.bottom * height // 1000)
    columns = range(step.left * width // 1000, width - step.right * width // 1000)
    return [[[plane[y][x] for x in columns] for y in rows] for plane in planes]


def _pad(planes: Planes, step: Pad) -> Planes:
    height, width = len(planes[0]), len(planes[0][0])
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    padded = [[[step.value] * side for _ in range(side)] for _ in planes]
    for c, y, x in product(range(len(planes)), range(height), range(width)):
        padded[c][y + top][x + left] = planes[c][y][x]
    return padded


def _weights(source: int, target: int, method: str) -> list[list[tuple[int, int]]]:
    """For each output the (input, weight) pairs."""
    table = []
    for j in range(target):
        if method == "area":
            overlaps = (
                (i, min((j + 1) * source, (i + 1) * target) - max(j * source, i * target))
                for i in range(source)
            )
            table.append([(i, weight) for i, weight in overlaps if weight > 0])
        else:
            n = min(max((2 * j + 1) * source - target, 0), 2 * target * (source - 1))
            i, r = divmod(n, 2 * target)
            table.append([(i, 2 * target - r), *([(i + 1, r)] if r else [])])
    return table


def _resize(planes: Planes, step: Resize) -> Planes:
    down = _weights(len(planes[0]), step.height, step.method)
    across = _weights(len(planes[0][0]), step.width, step.method)
    total = sum(w for _, w in down[0]) * sum(w for _, w in across[0])

    def pixel(plane: Plane, rows: list[tuple[int, int]], columns: list[tuple[int, int]]) -> int:
        value = sum(a * b * plane[y][x] for y, a in rows for x, b in columns)
        return (2 * value + total) // (2 * total)

    return [[[pixel(plane, rows, columns) for columns in across] for rows in down] for plane in planes]


def _denoise(planes: Planes, step: Denoise) -> Planes:
    height, width, reach = len(planes[0]), len(planes[0][0]), step.kernel // 2
    offsets = list(product(range(-reach, reach + 1), repeat=2))

    def median(plane: Plane, y: int, x: int) -> int:
        near = [plane[min(max(y + a, 0), height - 1)][min(max(x + b, 0), width - 1)] for a, b in offsets]
        return sorted(near)[len(near) // 2]

    return [[[median(plane, y, x) for x in range(width)] for y in range(height)] for plane in planes]


def _normalize(planes: Planes, step: Normalize) -> Planes:
    values = [p for plane in planes for row in plane for p in row]
    cumulative = [sum(p <= v for p in values) for v in range(256)]
    low = next(v for v in range(256) if 1000 * cumulative[v] > step.low * len(values))
    high = next(v for v in range(256) if 1000 * cumulative[v] >= step.high * len(values))
    if high <= low:
        return planes
    span = high - low
    return _map(planes, lambda p: (2 * 255 * (min(max(p, low), high) - low) + span) // (2 * span))


_REFERENCE: dict[str, Callable[[Planes, Any], Planes]] = {
    "grayscale": _grayscale,
    "rgb": _rgb,
    "invert": _invert,
    "crop": _crop,
    "pad": _pad,
    "resize": _resize,
    "denoise": _denoise,
    "normalize": _normalize,
}

_margin = st.integers(0, 499)
_side = st.integers(1, 23)
_steps = st.one_of(
    st.just(Grayscale()),
    st.just(Rgb()),
    st.just(Invert()),
    st.builds(Crop, top=_margin, bottom=_margin, left=_margin, right=_margin),
    st.builds(Pad, value=st.integers(0, 255)),
    st.builds(Resize, height=_side, width=_side, method=st.sampled_from(["area", "linear"])),
    st.builds(Denoise, kernel=st.sampled_from([3, 5])),
    st.builds(Normalize, low=st.integers(0, 499), high=st.integers(501, 1000)),
)
_values = st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 127, 128, 254, 255]))
_pixels = st.tuples(_side, _side, st.sampled_from([(), (3,)])).flatmap(
    lambda s: hnp.arrays(np.uint8, (s[0], s[1], *s[2]), elements=_values)
)


@settings(max_examples=300, deadline=None)
@given(pixels=_pixels, steps=st.lists(_steps, min_size=1, max_size=3))
def test_steps_compute_exactly_their_definition(pixels: Pixels, steps: Sequence[Step]) -> None:
    before = pixels.copy()
    expected = pixels
    for step in steps:
        expected = reference(expected, step)
    result = apply_steps(pixels, steps)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == np.uint8 and result.flags.c_contiguous
    np.testing.assert_array_equal(pixels, before)


def test_grayscale_is_exact_for_every_colour() -> None:
    green, blue = (plane.astype(np.uint8) for plane in np.mgrid[:256, :256])
    for red in range(256):
        pixels = np.stack([np.full_like(green, red), green, blue], axis=2)
        weighted = 9798 * red + 19235 * green.astype(np.int64) + 3735 * blue.astype(np.int64)
        np.testing.assert_array_equal(apply_steps(pixels, [Grayscale()]), (weighted + 16384) >> 15)


@pytest.mark.parametrize("shape", [(480, 640), (1955, 1841), (2500, 3700), (700, 500, 3), (30, 65_000)])
def test_a_large_image_is_resized_as_exactly_as_a_small_one(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(7).integers(0, 256, shape, np.uint8)
    pixels[: shape[0] // 2] |= 0xF0
    result = apply_steps(pixels, [Resize(height=37, width=224)])

    def matrix(source: int, target: int) -> np.ndarray[Any, Any]:
        dense = np.zeros((target, source))
        for j, pairs in enumerate(_weights_fast(source, target)):
            for i, weight in pairs:
                dense[j, i] = weight
        return dense

    total = shape[0] * shape[1]
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    for c in range(planes.shape[2]):
        # In float64: every partial sum is an integer below 2^53.
        sums = matrix(shape[0], 37) @ planes[..., c].astype(float) @ matrix(shape[1], 224).T
        expected = (2 * sums.astype(np.int64) + total) // (2 * total)
        np.testing.assert_array_equal(result if result.ndim == 2 else result[..., c], expected)


def _weights_fast(source: int, target: int) -> list[list[tuple[int, int]]]:
    table = []
    for j in range(target):
        inputs = range(j * source // target, -(-(j + 1) * source // target))
        table.append(
            [(i, min((j + 1) * source, (i + 1) * target) - max(j * source, i * target)) for i in inputs]
        )
    return table


@pytest.mark.parametrize("method", ["area", "linear"])
def test_a_constant_image_stays_constant_at_any_size(method: str) -> None:
    for value in (0, 1, 254, 255):
        pixels = np.full((1021, 3), value, np.uint8)
        step = Resize.model_validate({"op": "resize", "height": 4096, "width": 50, "method": method})
        assert set(np.unique(apply_steps(pixels, [step]))) == {value}


def test_normalize_counts_all_pixels_of_a_very_large_image() -> None:
    # More than 2^24 of one value: a count in float32 would stop there.
    pixels = np.full((4200, 4100), 40, np.uint8)
    pixels[:9, :10] = 200
    stretched = apply_steps(pixels, [Normalize(low=0, high=1000)])
    assert stretched[0, 0] == 255 and stretched[-1, -1] == 0


def test_what_is_no_image_is_refused() -> None:
    for wrong in (np.zeros((4, 4), np.uint16), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(ValueError, match="expected uint8"):
            apply_steps(wrong, [Invert()])
