"""Heat maps and overlays."""

from __future__ import annotations

import cv2
import numpy as np

from edge.imaging.overlay import heat_map, overlay_png


def test_a_heat_map_peaks_where_the_activation_does() -> None:
    cam = np.zeros((4, 5), np.float32)
    cam[1, 3] = 0.02
    cam[3, 0] = -7
    heat = heat_map(cam, 84, 105)  # 21 pixels each way for each of the map's
    assert heat.shape == (84, 105) and heat.dtype == np.uint8
    assert np.unravel_index(heat.argmax(), heat.shape) == (31, 73)
    assert heat.max() == 255 and heat[73, 10] == 0


def test_without_positive_activation_there_is_no_heat() -> None:
    assert not heat_map(np.full((3, 3), -1, np.float32), 9, 9).any()
    assert not heat_map(np.zeros((3, 3), np.float32), 9, 9).any()


def test_an_overlay_colours_the_peak_and_leaves_the_rest() -> None:
    gray = np.tile(np.arange(0, 200, 2, dtype=np.uint8), (80, 1))
    cam = np.zeros((4, 5), np.float32)
    cam[1, 3] = 1
    for pixels in (gray, np.dstack([gray] * 3)):
        png = overlay_png(pixels, cam)
        shown = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
        np.testing.assert_array_equal(shown[60:, :40], np.dstack([gray] * 3)[60:, :40])
        assert np.ptp(shown[30, 70].astype(int)) > 60


def test_an_overlay_holds_nothing_but_pixels() -> None:
    png = overlay_png(np.full((20, 20), 99, np.uint8), np.ones((2, 2), np.float32))
    kinds, at = [], 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        kinds.append(png[at + 4 : at + 8])
        at += 12 + size
    assert set(kinds) == {b"IHDR", b"IDAT", b"IEND"}
