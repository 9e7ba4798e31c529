"""Steps against their definition, written out pixel by pixel in Python integers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import TypeAdapter
from step_reference import VECTORS, reference, text, unpack

from edge.bundle.steps import Crop, Denoise, Grayscale, Invert, Normalize, Pad, Resize, Rgb, Step
from edge.imaging import steps as computing
from edge.imaging.frame import Pixels
from edge.imaging.steps import apply_steps

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


def test_the_mean_of_a_very_large_image_is_exact() -> None:
    pixels = np.full((4100, 4200), 255, np.uint8)  # its sum is above 2^31
    assert apply_steps(pixels, [Resize(height=1, width=1)]).tolist() == [[255]]


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


def test_the_published_vectors_are_those_of_the_definition() -> None:
    assert VECTORS.read_text(encoding="utf-8") == text(), "run: python tests/support/step_reference.py"


@pytest.mark.parametrize(
    "vector",
    json.loads(VECTORS.read_text(encoding="utf-8"))["vectors"],
    ids=lambda vector: str(vector["name"]),
)
def test_steps_pass_the_published_vectors(vector: dict[str, Any]) -> None:
    steps = TypeAdapter(list[Step]).validate_python(vector["steps"])
    np.testing.assert_array_equal(apply_steps(unpack(vector["input"]), steps), unpack(vector["output"]))


@pytest.mark.parametrize("shape", [(480, 640), (480, 640, 3), (600, 800), (96, 128), (64, 48, 3), (21, 7)])
@pytest.mark.parametrize("side", [28, 96, 224])
def test_both_ways_to_resize_by_area_agree(
    shape: tuple[int, ...], side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(side).integers(0, 256, shape, np.uint8)
    pixels.flat[: pixels.size // 3] = 255  # the largest sums
    quick = apply_steps(pixels, [Resize(height=side, width=side)])
    monkeypatch.setattr(computing, "_PERIOD", 0)
    np.testing.assert_array_equal(quick, apply_steps(pixels, [Resize(height=side, width=side)]))
