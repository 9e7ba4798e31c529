from __future__ import annotations

import numpy as np
import pytest

from edge.bundle.steps import Crop, Grayscale, Pad, Resize
from edge.imaging.region import Region, seen_region
from edge.imaging.steps import apply_steps

RESIZE = Resize(height=16, width=16)


def test_without_crop_and_pad_the_model_sees_the_whole_frame():
    assert seen_region([Grayscale(), RESIZE], 480, 640) == Region(0, 0, 1, 1)


@pytest.mark.parametrize(
    "steps",
    [
        [Crop(top=250, left=100), RESIZE],
        [Pad(), RESIZE],
        [Crop(bottom=300, right=200), Pad(), RESIZE],
        [Resize(height=100, width=50), Pad(), RESIZE, Crop(top=250), RESIZE],
    ],
)
@pytest.mark.parametrize(("row", "column"), [(0.5, 0.5), (0.4, 0.6), (0.6, 0.3)])
def test_a_bright_spot_is_placed_where_it_was(steps, row, column):
    height, width = 300, 500
    pixels = np.zeros((height, width), np.uint8)
    y, x = int(row * height), int(column * width)
    pixels[y - 8 : y + 8, x - 8 : x + 8] = 255
    seen = apply_steps(pixels, steps)
    down, across = divmod(int(seen.argmax()), seen.shape[1])
    region = seen_region(steps, height, width)
    placed = region.place((down + 0.5) / seen.shape[0], (across + 0.5) / seen.shape[1])
    assert placed == pytest.approx((row, column), abs=0.07)
    spread = region.spread(seen.astype(np.float32), height, width)
    assert spread.shape == (height, width)
    peak = np.unravel_index(int(spread.argmax()), spread.shape)
    assert (peak[0] / height, peak[1] / width) == pytest.approx((row, column), abs=0.07)


def test_what_is_cropped_away_stays_dark():
    spread = Region(0.5, 0, 0.5, 1).spread(np.ones((4, 4), np.float32), 100, 80)
    assert not spread[:50].any()
    assert spread[50:].min() == 1


def test_a_peak_in_the_padding_goes_to_the_edge():
    assert Region(-0.5, 0, 2, 1).place(0.0, 0.5) == (0, 0.5)


@pytest.mark.parametrize("scale", [1, 3])
def test_what_the_model_does_not_see_is_black_in_a_picture_of_any_size(scale):
    steps = [Crop(top=250, bottom=100, left=500), Resize(height=8, width=8)]
    frame = np.full((40 * scale, 20 * scale), 200, np.uint8)
    kept = seen_region(steps, 40, 20).only(frame)
    seen = np.zeros((40, 20), bool)
    seen[10:36, 10:] = True
    assert np.array_equal(kept == 200, seen.repeat(scale, 0).repeat(scale, 1))
    colour = np.full((40, 20, 3), 200, np.uint8)
    assert np.array_equal(seen_region([Pad()], 40, 20).only(colour), colour)
