"""Shapes in a plane: how far points are inside an outline, and lines drawn by their width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from trainer.data.phantoms.geometry import Floats

__all__ = ["Plane", "cover", "ellipse", "paint", "rough_outline", "strokes"]


@dataclass(frozen=True)
class Plane:
    """Where the pixels of a slice lie: ``x`` to the right and ``y`` down in cm, ``[h, w]`` each."""

    x: Floats
    y: Floats
    cm_per_pixel: float
    turn: float
    origin: tuple[float, float]

    @classmethod
    def draw(
        cls, rng: np.random.Generator, size: int, view: tuple[float, float], shift: float, turn: float
    ) -> Plane:
        """A square field of view of a width between ``view`` (cm), off centre and turned by chance: standard
        deviations in cm and radians."""
        pixel = rng.uniform(*view) / size
        axis = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(pixel)
        origin = (float(rng.normal(0, shift)), float(rng.normal(0, shift)))
        angle = float(rng.normal(0, turn))
        across, down = np.meshgrid(axis + np.float32(origin[0]), axis + np.float32(origin[1]))
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return cls(cos * across + sin * down, cos * down - sin * across, float(pixel), angle, origin)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.x.shape[0], self.x.shape[1]

    def near(self, at: tuple[float, float], reach: float) -> tuple[tuple[slice, slice], Plane]:
        """The rows and columns within ``reach`` cm of a point, to index with, and that part of the plane."""
        column, row = self.pixel(*at)
        far = reach / self.cm_per_pixel + 1
        part = (
            slice(max(0, int(row - far)), max(0, int(row + far) + 2)),
            slice(max(0, int(column - far)), max(0, int(column + far) + 2)),
        )
        return part, replace(self, x=self.x[part], y=self.y[part])

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Column and row of a point."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        middle = (self.shape[1] - 1) / 2
        across, down = cos * x - sin * y - self.origin[0], sin * x + cos * y - self.origin[1]
        return across / self.cm_per_pixel + middle, down / self.cm_per_pixel + middle


def ellipse(
    plane: Plane, at: tuple[float, float], radii: tuple[float, float], tilt: float = 0.0, power: float = 2.0
) -> Floats:
    """About how far points are inside, in cm (outside: below 0); a ``power`` above 2 makes it boxy (Lamé)."""
    cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
    dx, dy = plane.x - np.float32(at[0]), plane.y - np.float32(at[1])
    u = np.abs(cos * dx + sin * dy) / np.float32(radii[0])
    v = np.abs(cos * dy - sin * dx) / np.float32(radii[1])
    if power == 2.0:
        reach = np.hypot(u, v)
        steep = np.hypot(u / np.float32(radii[0]), v / np.float32(radii[1])) / np.maximum(reach, 1e-3)
    else:
        reach = (u**power + v**power) ** np.float32(1 / power)
        p = np.float32(power - 1)
        steep = np.hypot(u**p / np.float32(radii[0]), v**p / np.float32(radii[1])) / np.maximum(
            reach**p, 1e-3
        )
    return np.asarray((1 - reach) / np.maximum(steep, 1 / (2 * max(radii))), np.float32)


def paint(
    image: Floats,
    plane: Plane,
    value: float | Floats,
    at: tuple[float, float],
    radii: tuple[float, float],
    tilt: float = 0.0,
) -> None:
    """Fill an ellipse of ``image`` with ``value``, a number or an image of its own."""
    part, here = plane.near(at, max(radii))
    share = cover(ellipse(here, at, radii, tilt), plane)
    wanted = value[part] if isinstance(value, np.ndarray) else np.float32(value)
    image[part] += (wanted - image[part]) * share


def rough_outline(
    plane: Plane,
    at: tuple[float, float],
    across: float,
    down: float,
    waves: Sequence[tuple[int, float, float]],
) -> tuple[Floats, Floats]:
    """An ellipse whose outline waves: ``(number, size as a share of the radius, phase)`` each.

    How far points are inside in cm, and their distance from the middle, 1 at the outline.
    """
    u = (plane.x - np.float32(at[0])) / np.float32(across)
    v = (plane.y - np.float32(at[1])) / np.float32(down)
    angle = np.arctan2(v, u)
    outline = np.ones_like(angle)
    for number, size, phase in waves:
        outline += np.float32(size) * np.cos(number * angle + np.float32(phase))
    reach = np.hypot(u, v) / outline
    return (1 - reach) * np.float32(min(across, down)), reach


def cover(inward: Floats, plane: Plane) -> Floats:
    """The share of each pixel that is inside, from the distance to the outline in cm."""
    return np.asarray(np.clip(0.5 + inward / np.float32(plane.cm_per_pixel), 0, 1), np.float32)


def strokes(lines: Sequence[tuple[float, float, float, float, float, float]], plane: Plane) -> Floats:
    """Lines ``(x0, y0, x1, y1, radius, share)`` in cm, as the share of each pixel that they cover, times
    their own. A line thinner than a pixel is fainter, not wider."""
    height, width = plane.shape
    canvas = np.zeros((2 * height, 2 * width), np.float32)
    for x0, y0, x1, y1, radius, share in sorted(lines, key=lambda line: line[5]):
        ends = [
            (round((2 * column + 0.5) * 16), round((2 * row + 0.5) * 16))
            for column, row in (plane.pixel(x0, y0), plane.pixel(x1, y1))
        ]
        wide = 4 * radius / plane.cm_per_pixel
        thickness = max(1, round(wide))
        value = share * min(1.0, wide / thickness)
        cv2.line(canvas, ends[0], ends[1], (value,), thickness, cv2.LINE_8, 4)
    fine = cv2.GaussianBlur(canvas, (0, 0), 0.7)
    return np.asarray(cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA))
