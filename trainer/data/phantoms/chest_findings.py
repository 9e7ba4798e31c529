"""What the findings of a chest radiograph add to the line integrals of a healthy thorax."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainer.data.phantoms.geometry import Ellipsoid, Floats, Rays, field, tubes, union_length

__all__ = ["CORTICAL", "FINDINGS", "LUNG", "SOFT", "SPONGY", "Lungs"]

# Linear attenuation in 1/cm near 60 keV (NIST XCOM): soft tissue, inflated lung, cortical and spongy bone.
SOFT, LUNG, CORTICAL, SPONGY = 0.20, 0.05, 0.50, 0.30


@dataclass(frozen=True)
class Lungs:
    """Path through air-filled lung, right (image left) and left, in cm, and the shapes it comes from."""

    air: tuple[Floats, Floats]
    shapes: tuple[Ellipsoid, Ellipsoid]

    @property
    def both(self) -> Floats:
        return self.air[0] + self.air[1]


def _spot(rng: np.random.Generator, lungs: Lungs, reach: float) -> tuple[int, float, float, float]:
    """Side (0 right, 1 left) and a point x, y, z in that lung, clear of heart and diaphragm."""
    side = int(rng.integers(2))
    shape = lungs.shapes[side]
    z = rng.uniform(-3.5, 7.5)
    room = math.sqrt(max(0.0, 1 - ((z - shape.centre[2]) / shape.radii[2]) ** 2))
    inner, outer = (-0.35, 0.65) if side == 0 else (0.05 if z < 0 else -0.3, 0.65)
    off = rng.uniform(inner, outer) * room * reach
    x = shape.centre[0] + (1 if side else -1) * off * shape.radii[0]
    y = shape.centre[1] + rng.uniform(-0.5, 0.5) * room * shape.radii[1]
    return side, float(x), float(y), float(z)


def _nodule(rng: np.random.Generator, lungs: Lungs, rays: Rays) -> Floats:
    """A round nodule of 22 to 30 mm in place of lung, slightly lobed, in part calcified: plain to see."""
    side, x, y, z = _spot(rng, lungs, 1.0)
    radius = float(rng.uniform(1.1, 1.5))
    parts = [Ellipsoid((x, y, z), (radius, radius, radius))]
    for _ in range(int(rng.integers(1, 4))):
        shift = rng.normal(0, 0.3 * radius, 3)
        lobe = radius * rng.uniform(0.6, 0.85)
        parts.append(Ellipsoid((x + shift[0], y + shift[1], z + shift[2]), (lobe, lobe, lobe)))
    total = union_length([part.span(rays) for part in parts])
    mu = rng.uniform(SPONGY, (SPONGY + CORTICAL) / 2)
    return np.asarray((mu - LUNG) * np.minimum(total, lungs.air[side]), np.float32)


def _consolidation(rng: np.random.Generator, lungs: Lungs, rays: Rays) -> Floats:
    """Patchy fluid in the air spaces of a part of a lung, with open bronchi left dark in it."""
    side, x, y, z = _spot(rng, lungs, 0.8)
    extent = rng.uniform(3.6, 5.5)
    dense = rng.uniform(0.85, 1.0)
    region = np.zeros_like(rays.x)
    for _ in range(int(rng.integers(3, 7))):
        shift = rng.normal(0, 0.35 * extent, 3)
        radii = extent * rng.uniform(0.55, 0.95, 3)
        part = Ellipsoid(
            (x + shift[0], y + shift[1], z + shift[2]), (radii[0], radii[1], radii[2]), rng.uniform(-1, 1)
        )
        region = np.maximum(region, part.span(rays).length)
    cm = 1 / rays.cm_per_pixel
    shape = (rays.x.shape[0], rays.x.shape[1])
    patches = field(rng, shape, (2.4 * cm, 2.4 * cm)) + 0.45 * field(rng, shape, (0.9 * cm, 0.9 * cm))
    fill = np.minimum(region, lungs.air[side]) * np.clip(0.8 + 0.3 * patches, 0.1, 1.2)
    outward = 1 if side else -1
    bronchi = []
    for angle in rng.uniform(-0.9, 0.9, 3):
        start = np.array([x - outward * 0.8 * extent, z])
        for radius in (0.24, 0.19, 0.14):
            end = start + extent * 0.5 * np.array([outward * np.cos(angle), np.sin(angle)])
            bronchi.append((start[0], start[1], end[0], end[1], radius))
            start, angle = end, angle + rng.normal(0, 0.4)
    air = tubes(bronchi, rays, smooth=0.4) * np.clip(fill / 2, 0, 1)
    return np.asarray((SOFT - LUNG) * dense * np.maximum(fill - 2 * air, 0), np.float32)


def _effusion(rng: np.random.Generator, lungs: Lungs, rays: Rays) -> Floats:
    """Fluid around the base of one lung: level over the diaphragm, rising to the wall as a meniscus."""
    side = int(rng.integers(2))
    shape = lungs.shapes[side]
    outward = (rays.x - shape.centre[0]) * (1 if side else -1) / shape.radii[0]
    level = shape.centre[2] + rng.uniform(-4.5, 2.5)
    rise = rng.uniform(1.8, 3.5)
    surface = level + rise * np.clip((outward + 0.6) / 1.6, 0, 1) ** 2
    soft = rng.uniform(0.5, 0.9)
    wet = 1 / (1 + np.exp(-np.clip((surface - rays.z) / soft, -30, 30)))
    return np.asarray((SOFT - LUNG) * 0.95 * wet * lungs.air[side], np.float32)


def _covid(rng: np.random.Generator, lungs: Lungs, rays: Rays) -> Floats:
    """Ground glass in many patches on both sides, mostly low and at the wall (Wong et al. 2020)."""
    cm = 1 / rays.cm_per_pixel
    shape = (rays.x.shape[0], rays.x.shape[1])
    total = np.zeros_like(rays.x)
    for side, outward in ((0, -1), (1, 1)):
        lung = lungs.shapes[side]
        region = np.zeros_like(rays.x)
        for _ in range(int(rng.integers(2, 6))):
            z = rng.uniform(-6.5, 3.0)
            room = math.sqrt(max(0.0, 1 - ((z - lung.centre[2]) / lung.radii[2]) ** 2))
            x = lung.centre[0] + outward * rng.uniform(0.25, 0.85) * room * lung.radii[0]
            radii = rng.uniform(1.2, 2.8, 3)
            part = Ellipsoid((x, -0.5, z), (radii[0], 2.2 * radii[1], radii[2]), rng.uniform(-1, 1))
            region = np.maximum(region, part.span(rays).length)
        hazy = np.clip(0.75 + 0.35 * field(rng, shape, (1.1 * cm, 1.1 * cm)), 0.1, 1.3)
        total += np.minimum(region, lungs.air[side]) * hazy
    return np.asarray((SOFT - LUNG) * rng.uniform(0.45, 0.75) * total, np.float32)


FINDINGS: dict[str, Callable[[np.random.Generator, Lungs, Rays], Floats]] = {
    "consolidation": _consolidation,
    "nodule": _nodule,
    "effusion": _effusion,
    "covid": _covid,
}
"""By name, in the order of the mask's indices; each gives what to add, ``[h, w]``."""
