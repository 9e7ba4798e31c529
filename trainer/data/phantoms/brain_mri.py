"""Axial brain slices, T1-weighted after contrast, with a glioma, a meningioma, a pituitary tumour or none.

Each tissue's signal follows from its proton density and relaxation times at 1.5 T by the spin-echo equation;
gadolinium shortens T1 by its relaxivity (Haacke et al., Magnetic Resonance Imaging). A coil's uneven field,
truncated k-space and Rician noise (Gudbjartsson and Patz 1995) follow. Tumours look and lie as the usual sets
of images have them (Cheng et al. 2015): a ring with a dead core and swelling around it within the brain; an
even, bright mass on the dura; a mass in the sella. Each pushes the brain aside. Sinuses, choroid plexus,
arteries and the healthy pituitary take up contrast in every image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from edge.imaging.frame import Pixels
from trainer.data.phantoms.geometry import Floats, field
from trainer.data.phantoms.plane import Plane, cover, ellipse, rough_outline, strokes

__all__ = ["LABELS", "Finding", "Slice", "axial"]

Finding = Literal["no tumour", "glioma", "meningioma", "pituitary"]
LABELS: tuple[Finding, ...] = ("no tumour", "glioma", "meningioma", "pituitary")

RELAXIVITY = 4.5  # of gadolinium, 1/(mM s)
# Proton density against water, T1 and T2 in ms at 1.5 T (Bottomley et al. 1987, rounded).
GRAY, WHITE, CSF = (0.80, 1000, 100), (0.70, 580, 80), (1.0, 4000, 2000)
FAT, MUSCLE, MARROW, BONE = (0.9, 260, 65), (0.75, 870, 48), (0.7, 380, 55), (0.05, 300, 5)
TUMOUR, SWELLING, DEAD = (0.9, 1250, 110), (0.9, 1350, 140), (0.95, 2600, 300)


@dataclass(frozen=True)
class Slice:
    """``pixels`` uint8 ``[size, size]``; ``mask`` uint8: 0, or the index of the finding in ``LABELS`` where
    the tumour lies, its swelling left out. ``cm_per_pixel`` of its sides."""

    pixels: Pixels
    mask: Pixels
    cm_per_pixel: float


@dataclass(frozen=True)
class _Weighting:
    """A spin-echo sequence: repetition and echo time in ms."""

    repetition: float
    echo: float

    def signal(self, tissue: tuple[float, float, float], gadolinium: float = 0.0) -> float:
        """Relative to all of the water's magnetization; ``gadolinium`` in mM."""
        density, t1, t2 = tissue
        t1 = 1 / (1 / t1 + gadolinium * RELAXIVITY / 1000)
        return float(density * (1 - np.exp(-self.repetition / t1)) * np.exp(-self.echo / t2))


@dataclass(frozen=True)
class _Head:
    """One patient's head: sizes in cm, whether the slice is ``low``, through the sella, or through the
    lateral ventricles, and how wide those and the sulci are."""

    across: float
    deep: float
    scalp: float
    skull: float
    low: bool
    ventricles: float
    sulci: float

    @classmethod
    def draw(cls, rng: np.random.Generator, finding: Finding) -> _Head:
        return cls(
            across=rng.uniform(6.0, 6.7),
            deep=rng.uniform(7.5, 8.3),
            scalp=rng.uniform(0.35, 0.8),
            skull=rng.uniform(0.45, 0.7),
            low=bool(rng.random() < 0.45) or finding == "pituitary",
            ventricles=rng.uniform(0.7, 1.35),
            sulci=rng.uniform(0.1, 0.2),
        )


@dataclass(frozen=True)
class _Tumour:
    """Where it is: centre and radius in cm, its outline, and the push on what is around."""

    at: tuple[float, float]
    radius: float
    oval: float
    waves: tuple[tuple[int, float, float], ...]
    push: float


def axial(
    finding: Finding, patient: np.random.SeedSequence, exposure: np.random.SeedSequence, size: int
) -> Slice:
    """One slice ``[size, size]``, the patient's left on the right, the face above.

    ``patient`` seeds anatomy, level and tumour; ``exposure`` position, sequence, coil and noise.
    """
    body, shot = np.random.default_rng(patient), np.random.default_rng(exposure)
    head = _Head.draw(body, finding)
    plane = Plane.draw(shot, size, view=(20.5, 23.5), shift=0.4, turn=0.06)
    weighting = _Weighting(shot.uniform(420, 650), shot.uniform(9, 16))
    dose = shot.uniform(0.8, 1.2)
    tumour = None if finding == "no tumour" else _place(body, finding, head)
    image, inside = _cranium(body, head, plane, weighting)
    pushed = plane if tumour is None else _pushed(plane, tumour, inside)
    brain = (_low_slice if head.low else _high_slice)(body, head, pushed, weighting, dose)
    image += (brain - image) * cover(inside, plane)
    _vessels(body, head, plane, weighting, dose, image)
    mask = np.zeros((size, size), np.uint8)
    if tumour:
        share = _grow(body, finding, tumour, plane, weighting, dose, image, inside)
        mask[share > 0.5] = LABELS.index(finding)
    return Slice(_acquire(shot, image), mask, plane.cm_per_pixel)


def _cranium(
    rng: np.random.Generator, head: _Head, plane: Plane, weighting: _Weighting
) -> tuple[Floats, Floats]:
    """Scalp and skull without brain, and how far points are inside the skull, in cm."""
    image = np.zeros(plane.shape, np.float32)
    bump = 0.06 * field(rng, plane.shape, (30, 30))
    edges = np.cumsum([0.0, 0.18, head.skull - 0.28, 0.15, head.scalp * 0.35, head.scalp * 0.65, 0.12])
    layers = (BONE, MARROW, BONE, MUSCLE, FAT, MUSCLE)
    for outer, tissue in zip(edges[:0:-1], layers[::-1], strict=True):
        radii = (head.across + outer, head.deep + outer)
        shape = ellipse(plane, (0, 0), radii, power=2.25) + bump
        image += (weighting.signal(tissue) - image) * cover(shape, plane)
    return image, ellipse(plane, (0, 0), (head.across, head.deep), power=2.25) + bump


def _folds(
    rng: np.random.Generator, head: _Head, plane: Plane, weighting: _Weighting, depth: Floats
) -> Floats:
    """White matter under a folded cortex: where a random field passes 0 there is a sulcus."""
    scale = 1.15 / plane.cm_per_pixel
    ridge = np.abs(field(rng, plane.shape, (scale, scale)) + 0.15 * field(rng, plane.shape, (4, 4)))
    reach = 1.9 + 0.5 * field(rng, plane.shape, (2 * scale, 2 * scale))
    shallow = np.clip((reach - depth) / 0.6, 0, 1)
    image = weighting.signal(WHITE) * (1 + 0.015 * field(rng, plane.shape, (5, 5)))
    cortex = np.maximum(np.clip((0.42 - depth) / 0.12, 0, 1), np.clip((0.6 - ridge) / 0.15, 0, 1) * shallow)
    image += (weighting.signal(GRAY) - image) * cortex
    water = np.maximum(
        np.clip((0.16 - depth) / 0.1, 0, 1), np.clip((head.sulci - ridge) / 0.1 + 0.5, 0, 1) * shallow
    )
    return np.asarray(image + (weighting.signal(CSF) - image) * water, np.float32)


def _high_slice(
    rng: np.random.Generator, head: _Head, plane: Plane, weighting: _Weighting, dose: float
) -> Floats:
    """Through lateral ventricles, thalami and basal ganglia."""
    depth = ellipse(plane, (0, 0), (head.across, head.deep), power=2.25)
    middle = np.abs(plane.x) + 0.03 * field(rng, plane.shape, (10, 10))
    cleft = np.where((plane.y < -3.4) | (plane.y > 3.6), middle, 9).astype(np.float32)
    image = _folds(rng, head, plane, weighting, np.minimum(depth, cleft))
    gray, white, water = (weighting.signal(tissue) for tissue in (GRAY, WHITE, CSF))
    v = head.ventricles

    def fill(value: float, at: tuple[float, float], radii: tuple[float, float], tilt: float = 0.0) -> None:
        nonlocal image
        image = image + (value - image) * cover(ellipse(plane, at, radii, tilt), plane)

    fill(white, (0, 0), (3.2, 4.2))
    for side in (-1, 1):
        fill(gray, (side * 2.55, -0.5), (0.55, 1.7), side * 0.22)
        fill(gray, (side * 1.55, -1.9), (0.5, 1.0), side * 0.35)
        fill(gray, (side * 1.0, 0.9), (0.85, 1.25), side * -0.35)
        fill(gray, (side * 4.1, -0.2), (0.22, 1.7), side * 0.1)
        fill(water, (side * 0.75, -2.2), (0.38 * v, 1.25 * v), side * 0.42)
        fill(water, (side * 1.95 * v**0.3, 2.9), (0.5 * v, 1.6), side * -0.35)
        plexus = weighting.signal(GRAY, dose * 0.9)
        fill(plexus, (side * 1.8 * v**0.3, 2.2), (0.2, 0.45), side * -0.3)
    fill(water, (0, 0.6), (0.16 * v, 0.95))
    fill(white, (0, -2.2), (0.07, 1.1))
    return image


def _low_slice(
    rng: np.random.Generator, head: _Head, plane: Plane, weighting: _Weighting, dose: float
) -> Floats:
    """Through frontal and temporal lobes, the cistern about the sella, midbrain and cerebellum."""
    depth = ellipse(plane, (0, 0), (head.across, head.deep), power=2.25)
    cleft = np.where(plane.y < -2.6, np.abs(plane.x), 9).astype(np.float32)
    image = _folds(rng, head, plane, weighting, np.minimum(depth, cleft))
    gray, white, water = (weighting.signal(tissue) for tissue in (GRAY, WHITE, CSF))

    def fill(
        value: float | Floats, at: tuple[float, float], radii: tuple[float, float], tilt: float = 0
    ) -> None:
        nonlocal image
        image = image + (value - image) * cover(ellipse(plane, at, radii, tilt), plane)

    for side in (-1, 1):  # Sylvian fissures, between frontal and temporal lobes
        fill(water, (side * 3.9, -2.1), (2.0, 0.16 + 0.1 * head.ventricles), side * -0.35)
    away = np.hypot(plane.x, plane.y - 3.2) + 0.25 * field(rng, plane.shape, (12, 12))
    leaves = 0.5 * (gray + white) + 0.6 * (white - gray) * np.cos(away * 2 * np.pi / 0.5)
    fill(water, (0, 4.35), (4.75, 3.0))
    fill(np.asarray(leaves, np.float32), (0, 4.4), (4.6, 2.85))
    fill(white, (0, 3.6), (1.2, 1.4))
    fill(water, (0, 2.75), (0.5, 0.3))
    star = rng.uniform(1.15, 1.5)
    for angle in np.linspace(0, 2 * np.pi, 5, endpoint=False):
        at = (0.6 * star * np.sin(angle), -0.8 - 0.6 * star * np.cos(angle))
        fill(water, at, (0.36, 0.8 * star), float(angle))
    fill(water, (0, 0.9), (1.95, 1.5))
    fill(0.5 * (gray + white), (0, 1.1), (1.6, 1.25))
    for side in (-1, 1):
        fill(white, (side * 1.0, 0.2), (0.5, 0.65), side * -0.5)
    gland = rng.uniform(0.25, 0.42)
    fill(weighting.signal(GRAY, dose * 0.8), (0, -0.8), (gland * 1.3, gland))
    return image


def _vessels(
    rng: np.random.Generator, head: _Head, plane: Plane, weighting: _Weighting, dose: float, image: Floats
) -> None:
    """Sinuses and arteries, whose blood has taken the contrast, and falx or tentorium."""
    edge = head.deep - 0.15
    lines = [
        (-0.28, edge, 0.28, edge, 0.2, 1.0),
        (0.0, edge - 0.25, 0.0, edge, 0.17, 1.0),
        (-0.1, -edge, 0.1, -edge, 0.14, 0.9),
    ]
    if head.low:
        for side in (-1, 1):
            lines += [(side * 0.75, -0.95, side * 0.8, -0.9, 0.2, 1.0)]
            bend = (side * 2.1, -1.55 + rng.normal(0, 0.1))
            lines += [(side * 0.75, -0.95, *bend, 0.11, 0.9), (*bend, side * 3.6, -1.9, 0.09, 0.8)]
            lines += [(side * 1.8, 2.0, side * 4.5, 3.3 + rng.normal(0, 0.15), 0.07, 0.6)]
            lines += [(side * 5.0, 3.6, side * 5.6, 3.9, 0.16, 0.9)]
        lines.append((0.0, -0.25, 0.05, -0.2, 0.15, 1.0))
    else:
        lines += [(0.0, -edge, 0.0, -3.6, 0.045, 0.55), (0.0, 3.7, 0.0, edge, 0.045, 0.55)]
        lines.append((0.0, 3.2, 0.0, 3.5, 0.14, 0.9))
    blood = weighting.signal(GRAY, dose * 1.3)
    image += (blood - image) * strokes(lines, plane)


def _place(rng: np.random.Generator, finding: Finding, head: _Head) -> _Tumour:
    rough = {"glioma": 0.13, "meningioma": 0.035, "pituitary": 0.06}[finding]
    waves = tuple((k, rough * rng.uniform(0.3, 1.0), rng.uniform(0, 6.3)) for k in range(2, 7))
    side = rng.choice([-1, 1])
    if finding == "glioma":
        radius = rng.uniform(1.0, 2.3)
        angle = rng.uniform(-2.4, 2.4) if head.low else rng.uniform(-np.pi, np.pi)
        share = rng.uniform(0.35, 0.62)
        at = (side * abs(np.sin(angle)) * share * head.across, -np.cos(angle) * share * head.deep)
        return _Tumour(at, radius, rng.uniform(0.75, 1.0), waves, rng.uniform(0.3, 0.55))
    if finding == "meningioma":
        radius = rng.uniform(0.9, 2.0)
        if not head.low and rng.random() < 0.25:  # on the falx
            at = (side * 0.75 * radius, float(rng.choice([-1, 1])) * rng.uniform(4.2, 5.8))
        else:
            angle = rng.uniform(-np.pi, np.pi)
            at = (
                (head.across - 0.62 * radius) * np.sin(angle),
                -(head.deep - 0.62 * radius) * np.cos(angle),
            )
        return _Tumour(at, radius, rng.uniform(0.85, 1.0), waves, rng.uniform(0.4, 0.6))
    radius = rng.uniform(0.75, 1.6)
    at = (rng.normal(0, 0.15), -0.9 + rng.normal(0, 0.15))
    return _Tumour(at, radius, rng.uniform(0.75, 1.0), waves, rng.uniform(0.3, 0.5))


def _pushed(plane: Plane, tumour: _Tumour, inside: Floats) -> Plane:
    """The plane as the brain sees it that the tumour has pushed aside, less the nearer to the skull."""
    dx, dy = plane.x - np.float32(tumour.at[0]), plane.y - np.float32(tumour.at[1])
    reach = np.hypot(dx, dy) / np.float32(1.7 * tumour.radius)
    pull = np.float32(tumour.push) * np.exp(-(reach**2)) * np.clip(inside / 0.8, 0, 1)
    return replace(plane, x=plane.x - dx * pull, y=plane.y - dy * pull)


def _grow(
    rng: np.random.Generator,
    finding: Finding,
    tumour: _Tumour,
    plane: Plane,
    weighting: _Weighting,
    dose: float,
    image: Floats,
    inside: Floats,
) -> Floats:
    """Draw the tumour into ``image``; returned is its share of each pixel."""
    inward, _ = rough_outline(plane, tumour.at, tumour.radius, tumour.radius * tumour.oval, tumour.waves)
    within = cover(inside, plane)
    share = cover(inward, plane) * within
    patchy = field(rng, plane.shape, (6, 6))
    if finding == "glioma" or (finding == "meningioma" and rng.random() < 0.35):
        far = rng.uniform(0.6, 1.8) if finding == "glioma" else rng.uniform(0.3, 0.8)
        fingers = far * (1 + 0.5 * field(rng, plane.shape, (9, 9)))
        swelling = np.clip((inward + fingers) / 0.3, 0, 1) * within * np.clip(inside / 0.5, 0, 1)
        swelling *= image < weighting.signal(WHITE) * 1.1
        swollen = np.maximum(weighting.signal(SWELLING), np.minimum(image, weighting.signal(GRAY)) * 0.85)
        image += (swollen - image) * 0.85 * swelling
    if finding == "glioma":
        core = weighting.signal(DEAD) * (1 + 0.12 * patchy)
        image += (core - image) * share
        thick = rng.uniform(0.16, 0.42) * (1 + 0.45 * field(rng, plane.shape, (8, 8)))
        ring = np.clip((thick - inward) / 0.1, 0, 1) * share
        image += (weighting.signal(TUMOUR, dose * rng.uniform(0.7, 1.3)) * (1 + 0.1 * patchy) - image) * ring
        return np.asarray(share, np.float32)
    strong = rng.uniform(0.9, 1.5) if finding == "meningioma" else rng.uniform(0.45, 1.0)
    image += (weighting.signal(TUMOUR, dose * strong) * (1 + 0.04 * patchy) - image) * share
    if finding == "meningioma":  # the dura beside it takes up contrast: its tail
        along = np.exp(-(((inside - 0.06) / 0.13) ** 2)) * np.clip((1.1 + inward) / 0.6, 0, 1)
        image += (weighting.signal(TUMOUR, dose * strong) - image) * 0.75 * along * (1 - share)
    elif rng.random() < 0.25:
        cyst = cover(inward - tumour.radius * rng.uniform(0.4, 0.6), plane) * share
        image += (weighting.signal(DEAD) - image) * cyst
    return np.asarray(share, np.float32)


def _acquire(rng: np.random.Generator, image: Floats) -> Pixels:
    """Coil, k-space, noise, window."""
    size = image.shape[0]
    uneven = np.exp(rng.uniform(0.03, 0.13) * field(rng, image.shape, (size / 2, size / 2)))
    spectrum = np.fft.fft2(image * uneven)
    across, down = np.fft.fftfreq(size), np.fft.fftfreq(size)[:, None]
    edge = rng.uniform(0.34, 0.5)
    window = 1 / (1 + np.exp((np.hypot(across, down) - edge) / 0.02))
    seen = np.fft.ifft2(spectrum * window)
    noise = rng.uniform(0.012, 0.04) * float(np.percentile(image, 95))
    noisy = seen + noise * (rng.standard_normal(image.shape) + 1j * rng.standard_normal(image.shape))
    strength = cv2.GaussianBlur(np.abs(noisy).astype(np.float32), (0, 0), 0.3)
    high = float(np.percentile(strength, rng.uniform(98.8, 99.7)))
    shown = np.clip(strength / high, 0, 1) ** rng.uniform(0.8, 1.05)
    return np.asarray(shown * 255 + 0.5, np.uint8)
