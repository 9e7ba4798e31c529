"""Path lengths of parallel rays through ellipsoids, and smooth random fields."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Ellipsoid", "Floats", "Rays", "Span", "field", "hull", "overlap", "tubes", "union_length"]

Floats = NDArray[np.float32]

_BEYOND = np.float32(1e3)  # cm: past everything, yet finite, so that differences stay numbers


@dataclass(frozen=True)
class Rays:
    """Parallel rays, one a pixel: ``(x + lean_x * y, y, z + lean_z * y)`` with ``x, z [h, w]`` in cm.

    x points to the patient's left (right in the image), y from back to front (along the beam), z to the head.
    """

    x: Floats
    z: Floats
    lean_x: float
    lean_z: float
    cm_per_pixel: float


class Span(NamedTuple):
    """Where each ray is inside a body: from ``near`` to ``far`` along y, in cm; empty where far <= near."""

    near: Floats
    far: Floats

    @property
    def length(self) -> Floats:
        """Path length in cm, 0 where the ray misses."""
        return np.asarray(np.maximum(self.far - self.near, 0), np.float32)


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and semi-axes (x, y, z) in cm, turned by ``tilt`` radians in the image plane."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    tilt: float = 0.0

    def span(self, rays: Rays) -> Span:
        """Entry and exit of each ray: the roots of the quadric along it."""
        cos, sin = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        cx, cy, cz = (np.float32(value) for value in self.centre)
        rx, ry, rz = (np.float32(value) for value in self.radii)
        dx, dz = rays.x - cx, rays.z - cz
        u0, w0 = (cos * dx + sin * dz) / rx, (cos * dz - sin * dx) / rz
        u1 = np.float32((cos * rays.lean_x + sin * rays.lean_z) / rx)
        w1 = np.float32((cos * rays.lean_z - sin * rays.lean_x) / rz)
        v0, v1 = -cy / ry, 1 / ry
        a = u1 * u1 + v1 * v1 + w1 * w1
        b = u0 * u1 + v0 * v1 + w0 * w1
        c = u0 * u0 + v0 * v0 + w0 * w0 - 1
        root = np.sqrt(np.maximum(b * b - a * c, 0))
        return Span((-b - root) / a, (-b + root) / a)


def overlap(one: Span, other: Span) -> Span:
    """Where rays are inside both."""
    return Span(np.maximum(one.near, other.near), np.minimum(one.far, other.far))


def hull(spans: Sequence[Span]) -> Span:
    """From the first entry into any to the last exit of all; their union where they hang together."""
    near = [np.where(span.far > span.near, span.near, _BEYOND) for span in spans]
    far = [np.where(span.far > span.near, span.far, -_BEYOND) for span in spans]
    return Span(np.minimum.reduce(near), np.maximum.reduce(far))


def union_length(spans: Sequence[Span]) -> Floats:
    """Path length in cm inside at least one: a sweep along each ray over its sorted entries."""
    near = np.stack([span.near for span in spans])
    far = np.maximum(np.stack([span.far for span in spans]), near)
    order = np.argsort(near, axis=0)
    near, far = np.take_along_axis(near, order, 0), np.take_along_axis(far, order, 0)
    reached = np.maximum.accumulate(far, axis=0)
    new_from = np.concatenate([near[:1], np.maximum(near[1:], reached[:-1])])
    return np.asarray(np.maximum(far - new_from, 0).sum(0), np.float32)


def tubes(
    segments: list[tuple[float, float, float, float, float]], rays: Rays, smooth: float = 0.5
) -> Floats:
    """Path length in cm through thin tubes ``(x0, z0, x1, z1, radius)`` that lie across the beam.

    Drawn, not solved: a tube is a line as wide as it is, its value the mean chord ``pi / 2 * radius``.
    """
    height, width = rays.x.shape
    canvas = np.zeros((height * 2, width * 2), np.float32)
    scale = 2 / rays.cm_per_pixel
    origin_x, origin_z = float(rays.x[0, 0]), float(rays.z[0, 0])
    for x0, z0, x1, z1, radius in segments:
        start = (round((x0 - origin_x) * scale * 16), round((origin_z - z0) * scale * 16))
        end = (round((x1 - origin_x) * scale * 16), round((origin_z - z1) * scale * 16))
        wide = 2 * radius * scale
        thickness = max(1, round(wide))
        chord = math.pi / 2 * radius * min(1.0, wide / thickness)
        cv2.line(canvas, start, end, (chord,), thickness, cv2.LINE_8, 4)
    canvas = cv2.GaussianBlur(canvas, (0, 0), 2 * smooth)
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA))


def field(rng: np.random.Generator, shape: tuple[int, int], scale: tuple[float, float]) -> Floats:
    """A smooth random field ``shape``, mean 0, standard deviation 1, of correlation length ``scale`` pixels.

    White noise on a coarse grid, cubically enlarged.
    """
    rows = max(4, int(np.ceil(shape[0] / scale[0])) + 3)
    columns = max(4, int(np.ceil(shape[1] / scale[1])) + 3)
    coarse = rng.standard_normal((rows, columns), np.float32)
    fine = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray((fine - fine.mean()) / (fine.std() + 1e-6), np.float32)
