"""Radiographs of the shaft of a long bone, whole or broken: transverse, oblique, spiral, comminuted.

The bone is a tube of cortex about marrow, wider and spongy towards a joint. A break is a surface in space
that cuts the tube, as the load that makes it does (Ruedi and Murphy, AO Principles of Fracture Management): a
bend makes a plane across the shaft, a push a slanted plane, a twist a helix whose ends a lengthwise split
joins, a crush several surfaces at once. The pieces are shifted and turned as rigid bodies, and parallel rays
cross what is left (Beer-Lambert, as in :mod:`trainer.data.phantoms.chest`): so a spiral break shows two
lines, one of the front wall and one of the back, and pieces that overlap are denser. Vessel channels look
like thin breaks and are in every image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from edge.imaging.frame import Pixels
from trainer.data.phantoms.geometry import Floats, field
from trainer.data.phantoms.plane import Plane

__all__ = ["LABELS", "Finding", "Radiograph", "radiograph"]

Finding = Literal["none", "transverse", "oblique", "spiral", "comminuted"]
LABELS: tuple[Finding, ...] = ("none", "transverse", "oblique", "spiral", "comminuted")

# Linear attenuation in 1/cm near 40 keV, where limbs are taken (NIST XCOM, rounded).
SOFT, CORTICAL, SPONGY, MARROW = 0.26, 1.25, 0.42, 0.24
SAMPLES = 30  # along each ray, through the bone


@dataclass(frozen=True)
class Radiograph:
    """``pixels`` uint8 ``[size, size]``, bone white; ``line_integral`` float32 of mu along each ray; ``mask``
    uint8: 0, or the index of the finding in ``LABELS`` about the break."""

    pixels: Pixels
    line_integral: Floats
    mask: Pixels


@dataclass(frozen=True)
class _Bone:
    """One patient's limb, in cm: the shaft's outer radius, its cortex, how much wider it gets towards the
    joint, its bow, where the break is, the soft tissue's radius, a second bone's, whether the joint is below,
    and the random stream of its textures."""

    radius: float
    cortex: float
    flare: float
    flare_at: float
    bow: float
    break_at: float
    flesh: float
    second: float
    upright: bool
    details: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Bone:
        radius = rng.uniform(0.95, 1.45)
        return cls(
            radius=radius,
            cortex=radius * rng.uniform(0.27, 0.38),
            flare=rng.uniform(0.2, 0.7),
            flare_at=rng.uniform(4.0, 8.0),
            bow=rng.uniform(-0.008, 0.008),
            break_at=rng.uniform(-1.5, 1.5),
            flesh=radius * rng.uniform(2.4, 3.6),
            second=float(rng.choice([0.0, rng.uniform(0.35, 0.55)])),
            upright=bool(rng.random() < 0.5),
            details=int(rng.integers(2**31)),
        )


@dataclass(frozen=True)
class _Piece:
    """A part of the bone: ``holds(x, y, z)`` is above 0 in it, in cm; moved by ``shift`` (x, z) and turned in
    the picture by ``turn`` radians about the break."""

    holds: Callable[[Floats, Floats, Floats], Floats]
    shift: tuple[float, float]
    turn: float


def radiograph(
    finding: Finding, patient: np.random.SeedSequence, exposure: np.random.SeedSequence, size: int
) -> Radiograph:
    """One radiograph ``[size, size]`` of 13 to 16 cm, the shaft about upright.

    ``patient`` seeds limb and break, ``exposure`` view, dose and window.
    """
    body, shot = np.random.default_rng(patient), np.random.default_rng(exposure)
    bone = _Bone.draw(body)
    pieces = _pieces(body, finding, bone)
    plane = Plane.draw(shot, size, view=(13.0, 16.0), shift=0.6, turn=0.16)
    view = float(body.uniform(0, 2 * np.pi)) + float(shot.normal(0, 0.15))  # round the shaft
    integral = _limb(bone, plane) + _through(bone, pieces, plane, view)
    mask = np.zeros((size, size), np.uint8)
    if finding != "none":
        mask[_about_break(bone, pieces, plane, view)] = LABELS.index(finding)
    if not bone.upright:
        integral, mask = (np.ascontiguousarray(image[::-1]) for image in (integral, mask))
    return Radiograph(_expose(integral, shot), integral, mask)


def _pieces(rng: np.random.Generator, finding: Finding, bone: _Bone) -> list[_Piece]:
    if finding == "none":
        return [_Piece(lambda x, y, z: np.ones_like(x), (0, 0), 0)]
    rough = _roughness(rng)
    reach = rng.uniform(0.2, 0.5) * bone.radius  # of the lower piece's shift
    shift = (rng.choice([-1, 1]) * reach, rng.uniform(0.05, 0.22))
    turn = rng.normal(0, 0.07)

    def plane_break(at: float, slope: float, towards: float) -> Callable[[Floats, Floats, Floats], Floats]:
        cx, cy = np.float32(slope * np.cos(towards)), np.float32(slope * np.sin(towards))
        return lambda x, y, z: z - np.float32(at) - cx * x - cy * y - rough(x, y)

    if finding == "transverse":
        below = plane_break(0, rng.uniform(0, 0.18), rng.uniform(0, 6.3))
    elif finding == "oblique":
        below = plane_break(0, rng.uniform(0.75, 1.6), rng.uniform(0, 6.3))
    elif finding == "spiral":
        below = _helix(rng, bone, rough)
    else:
        return _crushed(rng, bone, plane_break, shift, turn)
    return [_Piece(lambda x, y, z: -below(x, y, z), (0, 0), 0), _Piece(below, shift, turn)]


def _roughness(rng: np.random.Generator) -> Callable[[Floats, Floats], Floats]:
    waves = [
        (rng.uniform(2, 9), rng.uniform(2, 9), rng.uniform(0, 6.3), rng.uniform(0.01, 0.05)) for _ in range(5)
    ]

    def height(x: Floats, y: Floats) -> Floats:
        total = np.zeros_like(x)
        for a, b, phase, size in waves:
            total += np.float32(size) * np.sin(np.float32(a) * x + np.float32(b) * y + np.float32(phase))
        return total

    return height


def _helix(
    rng: np.random.Generator, bone: _Bone, rough: Callable[[Floats, Floats], Floats]
) -> Callable[[Floats, Floats, Floats], Floats]:
    """Once round the shaft along its length, from where a lengthwise split leads back."""
    pitch = rng.choice([-1, 1]) * rng.uniform(2.6, 4.2) * bone.radius
    start = rng.uniform(0, 6.3)

    def below(x: Floats, y: Floats, z: Floats) -> Floats:
        angle = np.mod(np.arctan2(y, x) - np.float32(start), np.float32(2 * np.pi))
        turns = angle / np.float32(2 * np.pi) - np.float32(0.5)
        return np.asarray(z - np.float32(pitch) * turns - rough(x, y), np.float32)

    return below


def _crushed(
    rng: np.random.Generator,
    bone: _Bone,
    plane_break: Callable[[float, float, float], Callable[[Floats, Floats, Floats], Floats]],
    shift: tuple[float, float],
    turn: float,
) -> list[_Piece]:
    """Two ends, and between them a zone split lengthwise and across into three or four loose pieces."""
    half = rng.uniform(0.8, 1.5)
    towards = rng.uniform(0, 6.3)
    upper = plane_break(-half, rng.uniform(0.3, 1.0), towards)
    lower = plane_break(half, rng.uniform(0.3, 1.0), towards + rng.uniform(2, 4))
    angle = rng.uniform(0, 6.3)
    split_x, split_y = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    off = np.float32(rng.uniform(-0.3, 0.3) * bone.radius)
    across = plane_break(rng.uniform(-0.4, 0.4), rng.uniform(0.3, 1.2), rng.uniform(0, 6.3))

    def between(x: Floats, y: Floats, z: Floats) -> Floats:
        return np.minimum(upper(x, y, z), -lower(x, y, z))

    def split(x: Floats, y: Floats) -> Floats:
        return np.asarray(split_x * x + split_y * y - off, np.float32)

    def loose() -> tuple[tuple[float, float], float]:
        return (rng.normal(0, 0.3), rng.normal(0, 0.15)), rng.normal(0, 0.22)

    return [
        _Piece(lambda x, y, z: -upper(x, y, z), (0, 0), 0),
        _Piece(lower, (shift[0], shift[1] + 0.1), turn * 1.5),
        _Piece(lambda x, y, z: np.minimum(between(x, y, z), -split(x, y)), *loose()),
        _Piece(lambda x, y, z: np.minimum.reduce([between(x, y, z), split(x, y), across(x, y, z)]), *loose()),
        _Piece(
            lambda x, y, z: np.minimum.reduce([between(x, y, z), split(x, y), -across(x, y, z)]), *loose()
        ),
    ]


def _through(bone: _Bone, pieces: list[_Piece], plane: Plane, view: float) -> Floats:
    """What the bone adds to the line integral over soft tissue."""
    total = np.zeros(plane.shape, np.float32)
    widest = bone.radius * (1 + bone.flare)
    depth = np.linspace(-widest, widest, SAMPLES, dtype=np.float32)[:, None]
    step = float(depth[1, 0] - depth[0, 0])
    textures = np.random.default_rng(bone.details)
    spongy = field(textures, (256, 256), (6, 5))
    channel = (textures.uniform(-4, 4), textures.uniform(0, 6.3))
    for piece in pieces:
        cos, sin = np.float32(np.cos(piece.turn)), np.float32(np.sin(piece.turn))
        dx = plane.x - np.float32(piece.shift[0])
        dz = plane.y - np.float32(piece.shift[1] + bone.break_at)
        x, z = cos * dx + sin * dz, cos * dz - sin * dx
        x = x - np.float32(bone.bow) * z * z
        where = np.flatnonzero((np.abs(x) < widest).ravel())  # rays that may meet the bone
        across, along = x.ravel()[where][None], z.ravel()[where][None]
        turned_x = np.cos(view) * across - np.sin(view) * depth
        turned_y = np.sin(view) * across + np.cos(view) * depth
        turned_x, turned_y = turned_x.astype(np.float32), turned_y.astype(np.float32)
        mu = _attenuation(bone, turned_x, turned_y, along, spongy, channel)
        inside = piece.holds(turned_x, turned_y, np.broadcast_to(along, turned_x.shape))
        share = np.clip(0.5 + inside / np.float32(plane.cm_per_pixel), 0, 1)
        total.ravel()[where] += (mu * share).sum(0) * np.float32(step)
    return total


def _attenuation(
    bone: _Bone, x: Floats, y: Floats, along: Floats, spongy: Floats, channel: tuple[float, float]
) -> Floats:
    """1/cm over soft tissue, of the unbroken bone at points round its own axis."""
    towards = np.clip((along + np.float32(bone.break_at) - np.float32(bone.flare_at - 4)) / 4, 0, 1)
    radius = np.float32(bone.radius) * (1 + np.float32(bone.flare) * towards**2)
    cortex = np.float32(bone.cortex) * (1 - 0.7 * towards)
    reach = np.hypot(x, y)
    edge = np.float32(0.1)
    outer = np.clip(0.5 + (radius - reach) / edge, 0, 1)
    inner = np.clip(0.5 + (radius - cortex - reach) / edge, 0, 1)
    rows = np.clip((along * 14 + 128).astype(int), 0, 255)
    columns = np.clip((x * 40 + y * 23 + 128).astype(int), 0, 255)
    bars = MARROW + (SPONGY - MARROW) * towards * (1 + 0.35 * spongy[rows, columns])
    mu = (CORTICAL - SOFT) * (outer - inner) + (bars - SOFT) * inner
    # The nutrient vessel's channel runs slantwise through the wall.
    angle = np.float32(channel[1])
    aside = np.hypot(
        -np.sin(angle) * x + np.cos(angle) * y,
        0.35 * (along - np.float32(channel[0])) - (reach - radius + cortex),
    )
    facing = (np.cos(angle) * x + np.sin(angle) * y) > 0
    mu -= 0.9 * (CORTICAL - SOFT) * (outer - inner) * facing * np.clip(1 - aside / 0.1, 0, 1)
    return np.asarray(mu, np.float32)


def _limb(bone: _Bone, plane: Plane) -> Floats:
    """Soft tissue, and in some a second, thinner bone beside."""
    off = 0.15 * bone.flesh
    chord = 2 * np.sqrt(np.maximum(bone.flesh**2 - (plane.x - off) ** 2, 0))
    textures = np.random.default_rng(bone.details + 1)
    total = SOFT * chord * (1 + 0.03 * field(textures, plane.shape, (18, 9)))
    if bone.second:
        at = bone.radius * 1.9 + bone.second
        away = np.abs(plane.x - at - 0.06 * np.sin(plane.y / 3))
        outer = 2 * np.sqrt(np.maximum(bone.second**2 - away**2, 0))
        inner = 2 * np.sqrt(np.maximum((0.55 * bone.second) ** 2 - away**2, 0))
        total += (CORTICAL - SOFT) * (outer - inner)
    return np.asarray(total, np.float32)


def _about_break(bone: _Bone, pieces: list[_Piece], plane: Plane, view: float) -> np.ndarray:
    """Pixels of the bone close to where the pieces part, back or front."""
    near = np.zeros(plane.shape, bool)
    z = plane.y - np.float32(bone.break_at)
    x = plane.x - np.float32(bone.bow) * z * z
    for depth in np.linspace(-0.9, 0.9, 7) * bone.radius:
        turned_x = (np.cos(view) * x - np.sin(view) * depth).astype(np.float32)
        turned_y = (np.sin(view) * x + np.cos(view) * depth).astype(np.float32)
        held = np.stack([piece.holds(turned_x, turned_y, z) for piece in pieces])
        near |= (np.sort(held, axis=0)[-1] < 0.22) & (np.hypot(turned_x, turned_y) < bone.radius)
    return near


def _expose(integral: Floats, rng: np.random.Generator) -> Pixels:
    """Quanta, blur, logarithm, window, collimation."""
    size = integral.shape[0]
    primary = np.exp(-integral)
    quanta = np.exp(rng.uniform(np.log(900), np.log(9000)))
    haze = rng.uniform(0.0, 0.05) * cv2.GaussianBlur(primary, (0, 0), size / 8)
    counts = rng.poisson(quanta * (primary + haze)).astype(np.float32)
    signal = cv2.GaussianBlur(counts, (0, 0), rng.uniform(0.35, 0.6))
    density = -np.log(np.maximum(signal, 1) / quanta)
    low, high = np.percentile(density, [rng.uniform(2, 10), rng.uniform(97, 99.7)])
    shown = np.clip((density - low) / (high - low), 0, 1) ** rng.uniform(0.8, 1.1)
    shown = rng.uniform(0.0, 0.08) + shown * rng.uniform(0.82, 0.95)
    if rng.random() < 0.4:
        left, right = (int(size * share) for share in rng.uniform(0, 0.12, 2))
        shown[:, :left], shown[:, size - right :] = 0, 0
    return np.asarray(np.clip(shown * 255 + 0.5, 0, 255), np.uint8)
