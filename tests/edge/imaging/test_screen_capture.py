"""Pictures of screens: the scan is found on them, and a video input's own picture is told from one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from edge.imaging.frame import Pixels
from edge.imaging.screen_capture import Box, find_scan, shows_no_signal


def ultrasound_screen(seed: int, height: int = 480, width: int = 640) -> tuple[Pixels, Box]:
    """A machine's screen: a sector of speckle, names and settings around it, a gray bar, a scale."""
    random = np.random.default_rng(seed)
    screen = np.zeros((height, width), np.uint8)
    cv2.putText(screen, "DOE^JANE 4711 1960-01-01", (12, 24), 0, 0.6, 230, 1)
    for line in range(8):
        cv2.putText(screen, f"MI 1.{line} DR 60 G 52", (8, 120 + 24 * line), 0, 0.4, 200, 1)
    cv2.rectangle(screen, (width - 22, 80), (width - 12, 300), 180, -1)
    for mark in range(60, height - 40, 20):
        cv2.line(screen, (width - 50, mark), (width - 44, mark), 160, 1)
    tall, wide = int(height * random.uniform(0.7, 0.8)), int(width * random.uniform(0.45, 0.6))
    top, left = int(height * 0.1), int(width * random.uniform(0.24, 0.3))
    rows, columns = np.mgrid[:tall, :wide]
    radius = np.hypot(rows + tall * 0.15, (columns - wide / 2) * 1.1)
    sector = (radius < tall * 1.12) & (np.abs(columns - wide / 2) < 0.1 * wide + rows * wide * 0.55 / tall)
    speckle = cv2.GaussianBlur(random.rayleigh(60, (tall, wide)).astype(np.float32), (0, 0), 1.2)
    scan = np.where(sector, np.clip(speckle, 0, 255), 0).astype(np.uint8)
    screen[top : top + tall, left : left + wide] = scan
    inside = np.argwhere(scan > 20)
    (first_row, first_column), (last_row, last_column) = inside.min(axis=0), inside.max(axis=0) + 1
    box = Box(*(int(v) for v in (top + first_row, left + first_column, top + last_row, left + last_column)))
    return screen, box


def overlap(shape: tuple[int, ...], box: Box) -> float:
    """How far a cut's size is that of a box: the smaller over the larger area."""
    cut, meant = shape[0] * shape[1], (box.bottom - box.top) * (box.right - box.left)
    return min(cut, meant) / max(cut, meant)


def _union(a: Box, b: Box) -> float:
    tall = min(a.bottom, b.bottom) - max(a.top, b.top)
    wide = min(a.right, b.right) - max(a.left, b.left)
    common = max(0, tall) * max(0, wide)
    areas = sum((box.bottom - box.top) * (box.right - box.left) for box in (a, b))
    return common / (areas - common)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [(480, 640), (600, 800), (1080, 1920)])
@pytest.mark.parametrize("colour", [False, True])
def test_the_scan_is_found_and_no_text_is_left(seed: int, size: tuple[int, int], colour: bool) -> None:
    screen, meant = ultrasound_screen(seed, *size)
    found = find_scan(np.dstack([screen] * 3) if colour else screen)
    assert found and _union(found, meant) > 0.85
    # The name stands above, the settings to the left.
    assert found.top > 26 and found.left > 120


def test_the_scan_of_a_real_machine_is_found() -> None:
    path = get_testdata_file("examples_ybr_color.dcm", download=False)
    screen = dcmread(str(path)).pixel_array[0]
    found = find_scan(screen)
    assert found and _union(found, Box(26, 88, 204, 230)) > 0.8
    assert found.right < 285 and found.bottom < 220  # where its settings begin


def test_a_screen_without_a_scan_has_none() -> None:
    screen, scan = ultrasound_screen(1)
    screen[scan.top : scan.bottom, scan.left : scan.right] = 0
    assert find_scan(screen) is None
    assert find_scan(np.zeros((40, 50), np.uint8)) is None


def _bars(height: int, width: int) -> Pixels:
    picture = np.zeros((height, width, 3), np.uint8)
    for number, code in enumerate((7, 3, 6, 2, 5, 1, 4)):  # white, yellow, cyan, green, magenta, red, blue
        colour = [191 * (code >> channel & 1) for channel in range(3)]
        picture[:, number * width // 7 : (number + 1) * width // 7] = colour
    picture[3 * height // 4 :] = 16
    return picture


def _through_jpeg(pixels: Pixels) -> Pixels:
    coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


def test_test_pictures_of_video_inputs_are_no_signal() -> None:
    blue = np.full((480, 640, 3), (0, 0, 220), np.uint8)
    written = blue.copy()
    cv2.putText(written, "NO SIGNAL", (180, 250), 0, 1.6, (255, 255, 255), 3)
    for picture in (blue, written, _bars(480, 640), _bars(1080, 1920)):
        assert shows_no_signal(picture) and shows_no_signal(_through_jpeg(picture))


def test_pictures_of_patients_and_screens_are_no_test_pictures() -> None:
    clip = dcmread(str(get_testdata_file("examples_ybr_color.dcm", download=False))).pixel_array
    rgb = dcmread(str(get_testdata_file("examples_rgb_color.dcm", download=False))).pixel_array
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (240, 320, 3), np.uint8)
    screen, _ = ultrasound_screen(0)
    gray_bars = np.dstack([np.repeat(np.arange(0, 256, 32, np.uint8), 20)[np.newaxis].repeat(100, 0)] * 3)
    for picture in (
        *clip[::10],
        rgb,
        noise,
        np.dstack([screen] * 3),
        gray_bars,
        np.zeros((9, 9, 3), np.uint8),
    ):
        assert not shows_no_signal(picture)
    assert not shows_no_signal(screen)
