"""Frontal chest radiographs of an analytic thorax, by Beer-Lambert, with or without a finding.

A scene of ellipsoids, slab-cut ribs and vessel trees is crossed by parallel rays from back to front (PA
view). Linear attenuation coefficients are those of NIST XCOM near 60 keV, rounded. The detected intensity is
``N (exp(-integral mu dl) + scatter)`` with Poisson noise; its logarithm is windowed to 8 bits, bone white.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np

from edge.imaging.frame import Pixels
from trainer.data.phantoms.chest_findings import CORTICAL, FINDINGS, LUNG, SOFT, SPONGY, Lungs
from trainer.data.phantoms.geometry import (
    Ellipsoid,
    Floats,
    Rays,
    Span,
    hull,
    overlap,
    tubes,
    union_length,
)

__all__ = ["LABELS", "Finding", "Radiograph", "radiograph"]

Finding = Literal["normal", "consolidation", "nodule", "effusion", "covid"]
LABELS: tuple[Finding, ...] = ("normal", "consolidation", "nodule", "effusion")


@dataclass(frozen=True)
class Radiograph:
    """``pixels`` uint8 ``[h, w]``; ``line_integral`` float32 ``[h, w]``, of mu along each ray, without noise;
    ``mask`` uint8 ``[h, w]``: 0, or where a finding lies its index in ``LABELS`` (covid: 4)."""

    pixels: Pixels
    line_integral: Floats
    mask: Pixels


@dataclass(frozen=True)
class Thorax:
    """One patient's anatomy: sizes relative to an average adult, and the random streams of its details."""

    width: float
    depth: float
    height: float
    heart: float
    dome: tuple[float, float]
    rib_slope: float
    rib_gap: float
    breast: float
    details: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Thorax:
        """A random patient."""
        return cls(
            width=rng.uniform(0.9, 1.1),
            depth=rng.uniform(0.85, 1.2),
            height=rng.uniform(0.9, 1.08),
            heart=rng.uniform(0.85, 1.15),
            dome=(rng.uniform(-0.6, 0.8), rng.uniform(-1.2, 0.2)),
            rib_slope=rng.uniform(0.42, 0.62),
            rib_gap=rng.uniform(2.15, 2.45),
            breast=float(rng.choice([0.0, rng.uniform(0.15, 0.45)])),
            details=int(rng.integers(2**31)),
        )


def radiograph(
    findings: Finding | tuple[Finding, ...],
    patient: np.random.SeedSequence,
    exposure: np.random.SeedSequence,
    size: int,
) -> Radiograph:
    """A PA chest radiograph ``[size, size]`` with one finding or several; the mask has the last of those that
    overlap.

    ``patient`` seeds anatomy and findings; ``exposure`` position, dose, noise and window: two images of an
    equal ``patient`` show the same person twice.
    """
    anatomy = np.random.default_rng(patient)
    shot = np.random.default_rng(exposure)
    thorax = Thorax.draw(anatomy)
    rays = _position(shot, size)
    integral, lungs = _healthy(thorax, rays)
    mask = np.zeros((size, size), np.uint8)
    for finding in (findings,) if isinstance(findings, str) else findings:
        if finding == "normal":
            continue
        added = FINDINGS[finding](anatomy, lungs, rays)
        integral = integral + added
        mask[added > max(0.03, 0.15 * float(added.max()))] = 1 + list(FINDINGS).index(finding)
    return Radiograph(_expose(integral, shot, rays), integral, mask)


def _position(rng: np.random.Generator, size: int) -> Rays:
    view = rng.uniform(34.5, 38.5)
    axis = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(view / size)
    x, z = np.meshgrid(axis + np.float32(rng.normal(0, 0.7)), -axis + np.float32(rng.normal(-1.0, 0.7)))
    roll = np.float32(rng.normal(0, 0.025))
    return Rays(
        x=x * np.cos(roll) + z * np.sin(roll),
        z=z * np.cos(roll) - x * np.sin(roll),
        lean_x=float(rng.normal(0, 0.03)),
        lean_z=float(rng.normal(0, 0.03)),
        cm_per_pixel=view / size,
    )


def _healthy(thorax: Thorax, rays: Rays) -> tuple[Floats, Lungs]:
    w, d, h = thorax.width, thorax.depth, thorax.height
    rng = np.random.default_rng(thorax.details)

    def span(x: float, y: float, z: float, rx: float, ry: float, rz: float, tilt: float = 0.0) -> Span:
        return Ellipsoid((x * w, y * d, z * h), (rx * w, ry * d, rz * h), tilt).span(rays)

    trunk = span(0, 0, -10, 17.2, 11.2, 33)
    body = trunk.length
    for side in (-1, 1):
        shoulder = span(side * 11.5, -1.5, 7.2, 12.5, 7, 6.6, side * -0.42)
        arm = span(side * 22, -2, -1, 4.6, 4.6, 17, side * 0.05)
        body = np.maximum(body, union_length([trunk, shoulder, arm]))
    body = np.maximum(body, span(0, -1, 17, 5.4, 6.2, 13).length)
    for side in (-1, 1):
        breast = span(side * 8.2, 10, -6.5, 5.6, 4.5, 5.8).length * thorax.breast
        body = body + breast * np.clip((0.5 * h - rays.z) / 8, 0, 1)  # it thins out towards the collarbone

    heart = Ellipsoid(
        (2.0 * w, 2 * d, -6.2 * h), (6.3 * w * thorax.heart, 4.6 * d, 4.6 * h * thorax.heart), -0.55
    )
    right_heart = Ellipsoid((-1.4 * w, 2 * d, -5.5 * h), (3.0 * w * thorax.heart, 4 * d, 5 * h), 0.1)
    upper = span(0.2, -1, 5, 2.7, 5, 12)
    arch = span(2.6, -1.5, 5.0, 1.7, 2.6, 1.9)
    trunk_vessel = span(2.6, 0, 1.4, 1.9, 2.2, 2.6, 0.4)
    aorta = span(1.6, -5, -4, 1.4, 1.4, 13)
    spine = span(0, -7.5, -3, 2.2, 2.8, 26)
    solid = [heart.span(rays), right_heart.span(rays), upper, arch, trunk_vessel, aorta, spine]

    air, shapes = [], []
    for index, side in enumerate((-1, 1)):
        lung = Ellipsoid((side * 7.1 * w, -0.5 * d, -4.5 * h), (6.3 * w, 8.6 * d, 17 * h), side * 0.07)
        inside = hull(
            [
                lung.span(rays),
                span(side * 5.6, -1.5, 6.2, 4.6, 6.4, 6.8, side * 0.15),
                span(side * 7.6, -0.5, -6, 6.4, 8.4, 9),
            ]
        )
        top = -8.4 + (1.0 if side < 0 else 0) + thorax.dome[index]
        dome = span(side * 6.3, 0.5, top - 9.5, 8.6, 9.6, 9.5)
        air.append(inside.length - union_length([overlap(other, inside) for other in (*solid, dome)]))
        shapes.append(lung)
    lungs = Lungs((air[0], air[1]), (shapes[0], shapes[1]))

    integral = SOFT * body - (SOFT - LUNG) * np.minimum(lungs.both, body)
    integral += (SOFT - LUNG) * _vessels(rng, w, h, rays) * np.clip(lungs.both / 4, 0, 1)
    integral -= SOFT * _airway(w, h, rays)
    if rng.random() < 0.7:
        integral -= SOFT * span(5.2, 3, top - 3.2, 2.6, 1.6, 1.3).length  # gas in the stomach
    integral += _bones(thorax, rays)
    return np.where(body > 0, np.maximum(integral, 0), 0).astype(np.float32), lungs


def _vessels(rng: np.random.Generator, w: float, h: float, rays: Rays) -> Floats:
    """Path through pulmonary vessels: trees that branch from each hilum and thin out."""
    segments: list[tuple[float, float, float, float, float]] = []

    def grow(x: float, z: float, angle: float, radius: float, length: float) -> None:
        if radius < 0.07 or len(segments) > 400:
            return
        angle += rng.normal(0, 0.15)
        x1, z1 = x + length * np.cos(angle), z + length * np.sin(angle)
        segments.append((x, z, x1, z1, radius))
        if rng.random() < 0.75:
            spread = rng.uniform(0.25, 0.7)
            share = rng.uniform(0.6, 0.85)
            grow(x1, z1, angle + spread, radius * share, length * rng.uniform(0.75, 1))
            grow(x1, z1, angle - spread, radius * (1.45 - share), length * rng.uniform(0.75, 1))
        else:
            grow(x1, z1, angle, radius * 0.85, length * rng.uniform(0.8, 1))

    for side in (-1, 1):
        for angle in np.linspace(-1.35, 1.25, 7) + rng.normal(0, 0.08, 7):
            direction = angle if side > 0 else np.pi - angle
            start = 0.5 + (0.6 if side > 0 else 0.0)
            grow(side * 3.0 * w, start * h, direction, rng.uniform(0.4, 0.62), 1.8)
    return tubes(segments, rays)


def _airway(w: float, h: float, rays: Rays) -> Floats:
    """Path through the air of trachea and main bronchi."""
    trachea = [(0.15, 18.0 * h, 0.15, 4.0 * h, 0.8 * w)]
    bronchi = [(0.15, 4.0 * h, -2.6 * w, 1.2 * h, 0.6), (0.15, 4.0 * h, 3.4 * w, 1.4 * h, 0.5)]
    return tubes(trachea + bronchi, rays, smooth=0.8)


def _bones(thorax: Thorax, rays: Rays) -> Floats:
    """What bones add to the line integral over soft tissue."""
    w, d, h = thorax.width, thorax.depth, thorax.height
    total = np.zeros_like(rays.x)
    for index in range(11):
        small = (0.52, 0.74, 0.88, 0.96)[index] if index < 4 else 1.0
        depth = 9.6 * d * min(1.0, small + 0.05)
        top = (13.4 - index * thorax.rib_gap) * h
        side_z = top - thorax.rib_slope * depth
        across = (7.4 + 7.1 * math.sqrt(max(0.05, 1 - ((side_z / h + 4.5) / 20) ** 2))) * w * small
        outer = _rib(rays, across, depth, top, thorax.rib_slope, 0.68, 0.95)
        inner = _rib(rays, across - 0.12, depth - 0.12, top, thorax.rib_slope, 0.46, 0.6)
        total += 0.8 * ((CORTICAL - SOFT) * outer - (CORTICAL - SPONGY) * inner)
    for index in range(15):
        z = (13.5 - 2.3 * index) * h
        body = Ellipsoid((0, -7.4 * d, z), (1.9, 1.6, 1.15)).span(rays).length
        total += (SPONGY - 0.02 - SOFT) * body
        for side in (-1, 1):
            pedicle = Ellipsoid((side * 1.15, -9.2 * d, z + 0.3), (0.33, 0.7, 0.5)).span(rays).length
            total += (CORTICAL - SOFT) * pedicle * 0.35
    for side in (-1, 1):
        knots = [(1.6, 8.6), (4.5, 9.5), (8.0, 9.7), (11.0, 10.6), (14.5, 11.0)]
        clavicle = [
            (side * x0 * w, z0 * h, side * x1 * w, z1 * h, 0.62) for (x0, z0), (x1, z1) in pairwise(knots)
        ]
        total += 0.2 * tubes(clavicle, rays, smooth=0.7)
        blade = Ellipsoid((side * 13.6 * w, -8.5 * d, 4.5 * h), (2.2, 0.5, 6.2), side * 0.18)
        total += (CORTICAL - SOFT) * blade.span(rays).length * 0.6
        humerus = Ellipsoid((side * 18 * w, -1, 9.5 * h), (2.4, 2.4, 2.6))
        total += (SPONGY + 0.04 - SOFT) * humerus.span(rays).length
    return total


def _rib(
    rays: Rays, across: float, depth: float, top: float, slope: float, half: float, thick: float
) -> Floats:
    """Path through a pair of ribs: the shell of an elliptic chest wall, cut by a slab that falls forwards.

    ``across`` and ``depth`` are the wall's outer semi-axes, ``thick`` its thickness, ``top`` the slab's
    height at the spine, ``half`` its half height (cm). In front the rib ends in cartilage, which hardly
    shows."""
    total = np.zeros_like(rays.x)
    for back in (True, False):
        x = np.abs(rays.x + np.float32(rays.lean_x * depth * (-0.7 if back else 0.5)))
        outer = depth * np.sqrt(np.maximum(1 - (x / across) ** 2, 0))
        inner = (depth - thick) * np.sqrt(np.maximum(1 - (x / (across - thick)) ** 2, 0))
        wall = Span(-outer, -inner) if back else Span(inner, np.minimum(outer, 0.62 * depth))
        fall = slope + rays.lean_z
        middle = (top - rays.z - slope * depth) / fall
        part = overlap(wall, Span(middle - half / fall, middle + half / fall)).length
        total += part * np.clip((x - 1.8) / 0.6, 0, 1)
    return total


def _expose(integral: Floats, rng: np.random.Generator, rays: Rays) -> Pixels:
    """Detector and display: scatter, quanta, blur, logarithm, window, collimation, side marker."""
    size = integral.shape[0]
    cm = 1 / rays.cm_per_pixel
    primary = np.exp(-integral)
    scatter_share = rng.uniform(0.15, 0.35)
    spread = cv2.GaussianBlur(primary, (0, 0), 3.5 * cm, borderType=cv2.BORDER_REPLICATE)
    # Quanta per square millimetre behind 2 cm of soft tissue, from low-dose portable to good.
    quanta = np.exp(rng.uniform(np.log(6e2), np.log(1.5e4))) * (10 * rays.cm_per_pixel) ** 2
    expected = quanta * (primary + scatter_share / (1 - scatter_share) * np.minimum(spread, 0.25))
    counts = rng.poisson(expected).astype(np.float32)
    signal = cv2.GaussianBlur(counts, (0, 0), rng.uniform(0.3, 0.5))
    density = -np.log(np.maximum(signal, 1) / quanta)
    chest = density[size // 5 : -size // 4, size // 5 : -size // 5]
    low, high = np.percentile(chest, [rng.uniform(0.5, 3), rng.uniform(93, 99)])
    low -= rng.uniform(0.05, 0.25) * (high - low)  # lung is dark, but only air outside the body is black
    shown = np.clip((density - low) / (high - low), 0, 1) ** rng.uniform(0.75, 1.0)
    shown = rng.uniform(0.0, 0.06) + shown * rng.uniform(0.86, 1.0) * 0.94
    if rng.random() < 0.5:
        _mark(shown, rng)
    if rng.random() < 0.5:
        top, bottom, left, right = (int(size * share) for share in rng.uniform(0, 0.05, 4))
        shown[:top], shown[size - bottom :] = 0, 0
        shown[:, :left], shown[:, size - right :] = 0, 0
    return np.asarray(np.clip(shown * 255 + 0.5, 0, 255), np.uint8)


def _mark(shown: Floats, rng: np.random.Generator) -> None:
    """A lead letter L on the patient's left."""
    size = shown.shape[0]
    at = (int(size * rng.uniform(0.86, 0.9)), int(size * rng.uniform(0.1, 0.2)))
    thickness = max(1, size // 128)
    cv2.putText(shown, "L", at, cv2.FONT_HERSHEY_SIMPLEX, size / 300, (1.0,), thickness, cv2.LINE_AA)
