"""Axial CT slices of a chest in Hounsfield units, with a benign or a malignant nodule or none.

Shapes are drawn by their outlines with the attenuation of their tissue; partial volume, the reconstruction
kernel's blur and noise of its spectrum follow (noise power rises with frequency, as filtered backprojection
makes it: Riederer et al. 1978). What tells the nodules apart is what radiologists go by (Fleischner Society,
MacMahon et al. 2017): smooth and often calcified is benign, lobed with spicules malignant. Vessels that cross
the slice look like small nodules and are in every image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from edge.imaging.frame import Pixels
from trainer.data.phantoms.geometry import Floats, field
from trainer.data.phantoms.plane import Plane, cover, ellipse, paint, rough_outline, strokes

__all__ = ["LABELS", "WINDOW", "Finding", "Slice", "axial"]

Finding = Literal["normal", "benign", "malignant"]
LABELS: tuple[Finding, ...] = ("normal", "benign", "malignant")

WINDOW = (-300.0, 1400.0)
"""Centre and width in HU of the 8-bit images: -1000 to 400, air to calcium, as LUNA16's entrants took."""

AIR, LUNG, FAT, MUSCLE, BLOOD, SPONGY, CORTICAL = -1000, -860, -100, 50, 45, 220, 750


@dataclass(frozen=True)
class Slice:
    """``pixels`` uint8 ``[size, size]``: ``hounsfield`` (float32, HU) through :data:`WINDOW`; ``mask`` uint8:
    0, or the index of the finding in ``LABELS`` where the nodule lies. ``cm_per_pixel`` of its sides."""

    pixels: Pixels
    hounsfield: Floats
    mask: Pixels
    cm_per_pixel: float


def axial(
    finding: Finding, patient: np.random.SeedSequence, exposure: np.random.SeedSequence, size: int
) -> Slice:
    """One slice ``[size, size]``, the patient's left on the right, the front above.

    ``patient`` seeds anatomy, level and nodule; ``exposure`` position, dose and kernel.
    """
    body, shot = np.random.default_rng(patient), np.random.default_rng(exposure)
    plane = Plane.draw(shot, size, view=(33.0, 38.5), shift=0.8, turn=0.03)
    hounsfield, lungs = _thorax(body, plane)
    mask = np.zeros((size, size), np.uint8)
    if finding != "normal":
        hounsfield, share = _nodule(body, finding, plane, hounsfield, lungs)
        mask[share > 0.5] = LABELS.index(finding)
    hounsfield = _scan(shot, hounsfield)
    return Slice(windowed(hounsfield), hounsfield, mask, plane.cm_per_pixel)


def windowed(hounsfield: Floats) -> Pixels:
    """uint8: ``hounsfield`` through :data:`WINDOW`, linear (PS3.3 C.11.2.1.2.1, EXACT)."""
    centre, width = WINDOW
    return np.asarray(np.clip((hounsfield - centre) / width + 0.5, 0, 1) * 255 + 0.5, np.uint8)


def _thorax(rng: np.random.Generator, plane: Plane) -> tuple[Floats, Floats]:
    """Attenuation in HU, and the share of lung in each pixel."""
    w, d, low = rng.uniform(0.92, 1.06), rng.uniform(0.9, 1.1), rng.uniform(0, 1)  # low: towards the heart
    rim = rng.uniform(0.7, 2.4)
    body = ellipse(plane, (0, 0), (15.6 * w + rim, 10.6 * d + rim), power=2.3)
    inner = ellipse(plane, (0, 0), (15.6 * w, 10.6 * d), power=2.3)
    hu = np.full(plane.shape, AIR, np.float32)
    _fill(hu, cover(body, plane), FAT + 8 * field(rng, plane.shape, (30, 30)))
    layers = 0.35 * field(rng, plane.shape, (25, 25))  # muscles, with fat between
    _fill(hu, cover(inner, plane), MUSCLE - 140 * (np.abs(layers) < 0.035))

    lungs = np.zeros(plane.shape, np.float32)
    heart = ellipse(plane, (2.2 * w, -2.2 * d), ((4.2 + 2.6 * low) * w, (3.2 + 1.6 * low) * d), tilt=0.5)
    middle = ellipse(plane, (0.2, -0.6 * d), (2.9 * w, 7.4 * d), power=2.6)
    spine = ellipse(plane, (0, 7.3 * d), (3.0, 2.9), power=2.0)
    for side in (-1, 1):
        narrow = 0.86 + 0.14 * low
        chest = ellipse(
            plane, (side * 6.9 * w, -0.2 * d), (6.3 * w * narrow, 8.9 * d * narrow), side * -0.08, power=2.5
        )
        wavy = 0.12 * field(rng, plane.shape, (22, 22))
        lung = np.minimum.reduce([chest + wavy, -middle, -spine, -heart + 0.3 * wavy])
        lungs = np.maximum(lungs, cover(lung, plane))
    gravity = 32 * np.clip(plane.y / 9, -1, 1.2)
    air = LUNG + rng.uniform(-25, 35) + gravity + 14 * field(rng, plane.shape, (9, 9))
    air += 10 * field(rng, plane.shape, (3, 3))
    _fill(hu, lungs, air)
    _mediastinum(rng, plane, hu, low, w, d)
    _bones(rng, plane, hu, w, d, rim)
    _vessels(rng, plane, hu, lungs, w, d)
    return hu, lungs


def _mediastinum(rng: np.random.Generator, plane: Plane, hu: Floats, low: float, w: float, d: float) -> None:
    """Fat between heart, aorta, great vessels, trachea or main bronchi, and oesophagus."""
    contrast = rng.choice([0.0, rng.uniform(90, 220)])
    blood = BLOOD + contrast
    paint(hu, plane, FAT, (0.2, -4.6 * d), (2.2, 2.6))
    if low > 0.35:
        scale = 0.75 + 0.45 * low
        for at, across, down in (((3.0 * w, -1.6 * d), 3.1, 2.6), ((-0.9 * w, -2.9 * d), 2.4, 2.9)):
            paint(hu, plane, blood, at, (across * scale, down * scale), tilt=0.5)
    else:
        for at, radius in (((2.5, -2.6), 1.4), ((-1.9, -3.4), 1.1), ((0.3, -2.4), 1.5)):
            paint(hu, plane, blood, at, (radius, radius))
    aorta = rng.uniform(1.1, 1.45)
    paint(hu, plane, blood, (2.5 * w, 4.6 * d), (aorta, aorta))
    if rng.random() < 0.4:  # calcified wall
        angle = rng.uniform(0, 2 * np.pi)
        at = (2.5 * w + aorta * np.cos(angle), 4.6 * d + aorta * np.sin(angle))
        paint(hu, plane, 600, at, (0.32, 0.16), tilt=angle + np.pi / 2)
    paint(hu, plane, 30, (0.9, 3.6 * d), (0.9, 0.6))
    ways = [((0.1, 0.6), 0.95)] if low < 0.4 else [((-1.9, 1.0), 0.65), ((2.1, 1.3), 0.6)]
    for at, radius in ways:
        paint(hu, plane, 40, at, (radius + 0.15, radius + 0.15))
        paint(hu, plane, AIR + 10, at, (radius, radius * 0.9))


def _bones(rng: np.random.Generator, plane: Plane, hu: Floats, w: float, d: float, rim: float) -> None:
    """Vertebra, ribs cut on their way round, sternum and shoulder blades."""

    marrow = np.float32(SPONGY) + 60 * field(rng, plane.shape, (2.5, 2.5))

    def bone(at: tuple[float, float], radii: tuple[float, float], tilt: float) -> None:
        paint(hu, plane, CORTICAL, at, radii, tilt)
        paint(hu, plane, marrow, at, (max(0.05, radii[0] - 0.16), max(0.05, radii[1] - 0.16)), tilt)

    bone((0, 6.9 * d), (1.75, 1.35), 0)
    for side in (-1, 1):
        bone((side * 2.3, 8.7 * d), (1.5, 0.4), side * 0.35)
        bone((side * 0.75, 9.5 * d), (1.1, 0.3), side * 0.85)
        bone((side * 8.2 * w, 9.4 * d + 0.2 * rim), (2.6, 0.32), side * -0.55)
    paint(hu, plane, 30, (0, 8.7 * d), (0.85, 0.75))
    bone((0, -9.6 * d), (rng.uniform(1.4, 2.0), 0.55), 0)
    start = rng.uniform(0, 0.4)
    for index in range(8):
        along = start + 0.42 * index
        for side in (-1, 1):
            angle = 1.25 - along + rng.normal(0, 0.05)
            at = (side * 14.3 * w * np.cos(angle), 9.7 * d * np.sin(angle))
            slope = np.arctan2(9.7 * d * np.cos(angle), -14.3 * w * np.sin(angle))
            bone(at, (rng.uniform(0.9, 2.1), rng.uniform(0.42, 0.55)), side * slope)


def _vessels(rng: np.random.Generator, plane: Plane, hu: Floats, lungs: Floats, w: float, d: float) -> None:
    """Trees from each hilum that leave the slice again, and round sections of those that cross it."""
    lines: list[tuple[float, float, float, float, float, float]] = []

    def grow(x: float, y: float, angle: float, radius: float, length: float, share: float) -> None:
        if radius < 0.05 or share < 0.15 or len(lines) > 500:
            return
        angle += rng.normal(0, 0.22)
        x1, y1 = x + length * np.cos(angle), y + length * np.sin(angle)
        lines.append((x, y, x1, y1, radius, share))
        share *= rng.uniform(0.6, 1.05)  # it leaves the slice by and by
        if rng.random() < 0.7:
            spread, part = rng.uniform(0.3, 0.8), rng.uniform(0.6, 0.85)
            grow(x1, y1, angle + spread, radius * part, length * rng.uniform(0.7, 1), min(share, 1))
            grow(x1, y1, angle - spread, radius * (1.4 - part), length * rng.uniform(0.7, 1), min(share, 1))
        else:
            grow(x1, y1, angle, radius * 0.85, length * rng.uniform(0.8, 1), min(share, 1))

    for side in (-1, 1):
        for angle in np.linspace(-1.3, 1.3, 5) + rng.normal(0, 0.15, 5):
            direction = angle if side > 0 else np.pi - angle
            grow(side * 3.2 * w, 0.8 * d, direction, rng.uniform(0.24, 0.45), 1.6, rng.uniform(0.3, 1))
    for _ in range(int(rng.integers(70, 130))):
        x, y = rng.uniform(-14, 14) * w, rng.uniform(-9, 9) * d
        radius = 0.06 + 0.28 * rng.beta(1, 4) * float(np.exp(-((abs(x) - 5) ** 2) / 60))
        angle, long = rng.uniform(0, np.pi), rng.exponential(0.12)
        lines.append((x, y, x + long * np.cos(angle), y + long * np.sin(angle), radius, rng.uniform(0.4, 1)))
    share = strokes(lines, plane) * lungs
    hu += (MUSCLE - hu) * share


def _nodule(
    rng: np.random.Generator, finding: Finding, plane: Plane, hu: Floats, lungs: Floats
) -> tuple[Floats, Floats]:
    """The slice with a nodule in one lung, and the share of nodule in each pixel."""
    radius = rng.uniform(0.45, 1.05) if finding == "benign" else rng.uniform(0.6, 1.4)
    room = cv2.distanceTransform((lungs > 0.9).astype(np.uint8), cv2.DIST_L2, 3) * plane.cm_per_pixel
    fits = np.flatnonzero(room > min(0.75 * radius, 0.9 * float(room.max())))
    spot = int(fits[int(rng.random() * len(fits))])
    row, column = divmod(spot, plane.shape[1])
    at = (float(plane.x[row, column]), float(plane.y[row, column]))
    oval = rng.uniform(0.8, 1.0)
    if finding == "benign":
        waves = [(k, rng.uniform(0, 0.05), rng.uniform(0, 6.3)) for k in (2, 3)]
    else:
        waves = [(k, rng.uniform(0.05, 0.14), rng.uniform(0, 6.3)) for k in range(2, 7)]
    inward, reach = rough_outline(plane, at, radius, radius * oval, waves)
    share = cover(inward, plane)
    solid: Any = rng.uniform(10, 70) + 15 * field(rng, plane.shape, (4, 4))
    if finding == "malignant":
        if rng.random() < 0.4:  # ground glass around it
            halo = np.clip(1 - np.maximum(-inward, 0) / rng.uniform(0.3, 0.7), 0, 1) * lungs
            hu += np.maximum(-480 - hu, 0) * halo
        hu += (MUSCLE - hu) * _spicules(rng, plane, at, radius) * lungs * (1 - share)
        solid = solid - rng.choice([0, rng.uniform(60, 250)])
    elif rng.random() < 0.65:
        solid = _calcified(rng, plane, solid, reach)
    return np.asarray(hu + (solid - hu) * share, np.float32), np.asarray(share, np.float32)


def _spicules(rng: np.random.Generator, plane: Plane, at: tuple[float, float], radius: float) -> Floats:
    lines = []
    for angle in np.linspace(0, 2 * np.pi, int(rng.integers(7, 14)), endpoint=False):
        turned, x, y = angle + rng.normal(0, 0.18), at[0], at[1]
        long = radius * rng.uniform(1.3, 1.9) + rng.uniform(0.1, 0.5)
        for part in range(3):  # ever thinner
            x1, y1 = x + long / 3 * np.cos(turned), y + long / 3 * np.sin(turned)
            lines.append((x, y, x1, y1, 0.09 - 0.02 * part, 0.9 - 0.2 * part))
            x, y, turned = x1, y1, turned + rng.normal(0, 0.12)
    return strokes(lines, plane)


def _calcified(rng: np.random.Generator, plane: Plane, solid: Floats, reach: Floats) -> Floats:
    """A benign pattern of calcium: throughout, central, in layers, or like popcorn. ``reach`` is 1 at the
    outline."""
    pattern = int(rng.integers(4))
    calcium = rng.uniform(250, 800)
    if pattern == 0:
        where = np.ones_like(reach)
    elif pattern == 1:
        where = np.clip((rng.uniform(0.45, 0.7) - reach) / 0.15, 0, 1)
    elif pattern == 2:
        where = np.exp(-(((reach - rng.uniform(0.6, 0.75)) / 0.14) ** 2)) + np.exp(-((reach / 0.25) ** 2))
    else:
        where = np.clip(1.4 * field(rng, plane.shape, (3.5, 3.5)) + 0.3, 0, 1) * (reach < 0.85)
    return np.asarray(solid + calcium * np.clip(where, 0, 1), np.float32)


def _fill(hu: Floats, share: Floats, value: Any) -> None:
    hu += (value - hu) * share


def _scan(rng: np.random.Generator, hu: Floats) -> Floats:
    """The kernel's blur and noise, which is coarser and less through a soft kernel."""
    size = hu.shape[0]
    blur = rng.uniform(0.45, 0.8)
    blurred = cv2.GaussianBlur(hu, (0, 0), blur)
    across, down = np.fft.rfftfreq(size), np.fft.fftfreq(size)[:, None]
    frequency = np.hypot(across, down)
    power = np.sqrt(frequency) * np.exp(-((frequency / rng.uniform(0.22, 0.4)) ** 2))
    white = np.fft.rfft2(rng.standard_normal((size, size), np.float32))
    noise = np.fft.irfft2(white * power, s=(size, size))
    strength = np.exp(rng.uniform(np.log(9), np.log(36)))
    return np.asarray(np.clip(blurred + strength * noise / noise.std(), -1024, 3071), np.float32)
