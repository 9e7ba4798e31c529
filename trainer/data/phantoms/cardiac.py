"""Apical four-chamber cine of a beating heart: a left ventricle whose volumes are known at every moment.

The ventricle's cavity is a body of revolution about its long axis; its volume follows the cardiac cycle
from end-diastole to end-systole and back by the ejection fraction that was drawn. The base moves towards the
apex, which stays where it is, and the muscle keeps its volume, so that it thickens. Speckle moves with the
muscle, blood brings new scatterers with every frame. The picture is made as breast ultrasound is
(:mod:`trainer.data.phantoms.bmode`), with a phased array's sector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from edge.imaging.frame import Pixels
from trainer.data.phantoms.bmode import COARSE, SAMPLES, Display, Probe, grid, receive, screen
from trainer.data.phantoms.geometry import Floats, field

__all__ = ["LABELS", "Cine", "Finding", "clip", "phases"]

Finding = Literal["normal", "reduced"]
LABELS: tuple[Finding, ...] = ("normal", "reduced")

# Lang et al. 2015 (ASE/EACVI): 52-72 % (men) is normal, below 40 % moderately reduced or worse.
EJECTION = {"normal": (0.54, 0.72), "reduced": (0.17, 0.40)}
VOLUME_ML = {"normal": (70, 150), "reduced": (90, 210)}
ROUNDNESS = {"normal": (0.27, 0.33), "reduced": (0.28, 0.36)}  # greatest radius over length
SYSTOLE = 0.36  # share of the cycle

LINES = 112
# Echogenicity in dB against muscle, attenuation in dB/(cm MHz), rounded from ICRU report 61.
MUSCLE, BLOOD, OUTSIDE = (0.0, 0.52), (-40.0, 0.18), (-15.0, 0.6)
PERICARDIUM_DB, VALVE_DB, CHEST_WALL_DB = 11.0, 3.0, 5.0
TGC = 0.42
POINTED, TAPER = 2.2, 0.35  # the cavity's outline: how blunt its apex is, how much its base narrows

_SIGMA = np.linspace(0, 1, 257)
_PROFILE = (1 - (1 - _SIGMA) ** POINTED) * (1 - TAPER * _SIGMA**4)  # squared radius from apex to base
_SLOPE = np.gradient(_PROFILE, _SIGMA)
_FILLING = float((_PROFILE[1:] + _PROFILE[:-1]).mean() / 2)  # share of a cylinder's volume


@dataclass(frozen=True)
class Cine:
    """A clip: ``frames`` and ``masks`` uint8 ``[t, size, size]``, 1 in the left ventricle's cavity.

    ``volume_ml [t]`` is the cavity's volume in each frame; ``end_diastolic_ml`` and ``end_systolic_ml`` are
    the largest and least of a whole cycle and give the ``ejection_fraction`` (0..1), even where no frame
    falls on those moments. Frames are ``frame_ms`` apart; a pixel is ``cm_per_pixel`` wide and high.
    """

    frames: Pixels
    masks: Pixels
    volume_ml: Floats
    end_diastolic_ml: float
    end_systolic_ml: float
    frame_ms: float
    cm_per_pixel: float

    @property
    def ejection_fraction(self) -> float:
        """Share of the end-diastolic volume that a beat ejects."""
        return 1 - self.end_systolic_ml / self.end_diastolic_ml


@dataclass(frozen=True)
class _Heart:
    """One patient's heart; lengths in mm, volumes in ml. ``details`` seeds textures."""

    volume: float
    ejection: float
    roundness: float
    wall: float
    apex_wall: float
    right: float
    atrium: float
    depth: float
    tilt: float
    rate: float
    details: int

    @classmethod
    def draw(cls, rng: np.random.Generator, finding: Finding) -> _Heart:
        return cls(
            volume=rng.uniform(*VOLUME_ML[finding]),
            ejection=rng.uniform(*EJECTION[finding]),
            roundness=rng.uniform(*ROUNDNESS[finding]),
            wall=rng.uniform(7.5, 11.0),
            apex_wall=rng.uniform(6.0, 8.0),
            right=rng.uniform(22, 33),
            atrium=rng.uniform(18, 25),
            depth=rng.uniform(20, 30),
            tilt=rng.uniform(-0.10, 0.22),
            rate=rng.uniform(55, 95),
            details=int(rng.integers(2**31)),
        )

    def at(self, moment: _Moment) -> _Shape:
        """Its shape, after the share ``moment.ejected`` of the stroke volume has left."""
        length = 10 * (self.volume / (np.pi * _FILLING * self.roundness**2)) ** (1 / 3)
        radius = self.roundness * length
        muscle = (radius + self.wall) ** 2 * (length + self.apex_wall) - radius**2 * length
        volume = self.volume * (1 - self.ejection * moment.ejected)
        length *= 1 - 0.3 * self.ejection * moment.ejected
        radius = float(np.sqrt(1000 * volume / (np.pi * _FILLING * length)))
        outer = float(np.sqrt((muscle + radius**2 * length) / (length + self.apex_wall)))
        return _Shape(volume, length, radius, outer)


@dataclass(frozen=True)
class _Moment:
    """Of the cycle: ``ejected`` share of the stroke volume, and how far the atrial valves are open (0..1)."""

    ejected: float
    valves: float


END_DIASTOLE, END_SYSTOLE = _Moment(0, 0), _Moment(1, 0)


@dataclass(frozen=True)
class _Shape:
    """The left ventricle at one moment: volume in ml, and in mm the cavity's length and greatest radius and
    the muscle's outer radius."""

    volume: float
    length: float
    radius: float
    outer: float


@dataclass(frozen=True)
class _Place:
    """Points in the heart's own axes, mm: ``u`` across the long axis, to the left ventricle's free wall, and
    ``s`` along it, from the cavity's apex to its base."""

    u: Floats
    s: Floats

    @classmethod
    def of(cls, heart: _Heart, x: Floats, z: Floats, drift: tuple[float, float]) -> _Place:
        dx, dz = x - np.float32(6 + drift[0]), z - np.float32(heart.depth + drift[1])
        cos, sin = np.float32(np.cos(heart.tilt)), np.float32(np.sin(heart.tilt))
        return cls(cos * dx - sin * dz, cos * dz + sin * dx)

    def inward(self, start: float, length: float, radius: float) -> Floats:
        """About how far, in mm, points are inside the bullet from ``start`` to ``start + length``."""
        sigma = (self.s - np.float32(start)) / np.float32(length)
        profile = np.interp(sigma, _SIGMA, _PROFILE) + np.minimum(sigma, 0)
        slope = np.interp(sigma, _SIGMA, _SLOPE) / length
        steep = np.hypot(2 * self.u / radius**2, slope) + 1e-3
        return np.asarray((profile - (self.u / radius) ** 2) / steep, np.float32)


def clip(
    finding: Finding,
    patient: np.random.SeedSequence,
    exposure: np.random.SeedSequence,
    size: int = 128,
    frames: int = 32,
    frame_ms: float = 40,
) -> Cine:
    """A cine of ``frames`` images ``[size, size]``, from a random moment on; 32 of 40 ms hold a whole cycle.

    ``patient`` seeds the heart and its ejection fraction, ``exposure`` probe, gain, drift and noise.
    """
    heart = _Heart.draw(np.random.default_rng(patient), finding)
    shot = np.random.default_rng(exposure)
    start = shot.random()
    cycle = (start + np.arange(frames) * frame_ms * heart.rate / 60_000) % 1
    return _film(heart, shot, [_moment(float(phase)) for phase in cycle], size, frame_ms)


def phases(
    finding: Finding, patient: np.random.SeedSequence, exposure: np.random.SeedSequence, size: int = 128
) -> Cine:
    """Two frames of one beat: end-diastole, then end-systole. The arguments are those of :func:`clip`."""
    heart = _Heart.draw(np.random.default_rng(patient), finding)
    frame_ms = SYSTOLE * 60_000 / heart.rate
    return _film(heart, np.random.default_rng(exposure), [END_DIASTOLE, END_SYSTOLE], size, frame_ms)


def _moment(phase: float) -> _Moment:
    """Ejection, early filling, diastasis and the atria's kick, as shares of a cycle from end-diastole on."""

    def ease(start: float, end: float) -> float:
        return float(np.sin(np.pi / 2 * np.clip((phase - start) / (end - start), 0, 1)) ** 2)

    ejected = ease(0, SYSTOLE) - 0.72 * ease(SYSTOLE, 0.6) - 0.28 * ease(0.84, 1.0)
    valves = ease(SYSTOLE, 0.44) - 0.6 * ease(0.5, 0.64) + 0.4 * ease(0.82, 0.9) - 0.8 * ease(0.92, 1.0)
    return _Moment(ejected, float(np.clip(valves, 0, 1)))


def _film(
    heart: _Heart, shot: np.random.Generator, moments: list[_Moment], size: int, frame_ms: float
) -> Cine:
    rest = heart.at(END_DIASTOLE)
    probe = _probe(shot, heart.depth + rest.length)
    display = Display(shot, probe, size)
    shape = (SAMPLES // COARSE, LINES)
    x, z = grid(probe, shape, LINES)
    across, below, scale = screen(probe, size)
    tissue = shot.standard_normal((SAMPLES, LINES), np.float32)
    look = _Look.draw(heart, shot, probe, shape)
    sway = shot.uniform(0.3, 1.5, 2), shot.uniform(0.2, 0.6), shot.uniform(0, 2 * np.pi, 2)
    images, masks, volumes = [], [], []
    for number, moment in enumerate(moments):
        now = heart.at(moment)
        swing = sway[0] * np.sin(2 * np.pi * sway[1] * number * frame_ms / 1000 + sway[2])
        drift = (float(swing[0]), float(swing[1]))
        place = _Place.of(heart, x, z, drift)
        echo, attenuation, blood = _chambers(heart, moment, now, place, look, z)
        scatterers = _carried(tissue, heart, rest, now, place, probe)
        flow = cv2.resize(blood, (LINES, SAMPLES), interpolation=cv2.INTER_LINEAR) > 0.5
        scatterers[flow] = shot.standard_normal(int(flow.sum()), np.float32)
        images.append(display.show(receive(shot, probe, scatterers, echo, attenuation)))
        seen = _Place.of(heart, across, below, drift)
        cavity = (seen.inward(0, now.length, now.radius) > 0) & (seen.s >= 0) & (seen.s <= now.length)
        masks.append(cavity.astype(np.uint8))
        volumes.append(now.volume)
    return Cine(
        frames=np.stack(images),
        masks=np.stack(masks),
        volume_ml=np.array(volumes, np.float32),
        end_diastolic_ml=rest.volume,
        end_systolic_ml=heart.at(END_SYSTOLE).volume,
        frame_ms=frame_ms,
        cm_per_pixel=scale / 10,
    )


def _probe(rng: np.random.Generator, base: float) -> Probe:
    """A phased array, its depth set so that the atria show below the ventricle's ``base`` (mm)."""
    half, radius = rng.uniform(0.62, 0.72), 6.0
    beam = rng.uniform(0.9, 1.3)
    return Probe(
        width=2 * half * radius,
        depth=base + rng.uniform(42, 58),
        mhz=rng.uniform(2.2, 3.2),
        bandwidth=rng.uniform(0.5, 0.65),
        focus=rng.uniform(0.4, 0.65),
        radius=radius,
        beam=(beam, 1.7 * beam),
        tgc=TGC,
    )


@dataclass(frozen=True)
class _Look:
    """What of the picture does not change through a clip: textures and losses on the coarse grid, in dB."""

    muscle: Floats
    outside: Floats
    trabeculae: Floats
    shadow: Floats
    haze: float
    dropout: float

    @classmethod
    def draw(cls, heart: _Heart, shot: np.random.Generator, probe: Probe, shape: tuple[int, int]) -> _Look:
        body = np.random.default_rng(heart.details)
        shadow = np.zeros((1, shape[1]), np.float32)
        if shot.random() < 0.4:  # a rib or lung at the edge of the sector
            edge = np.linspace(0, 1, shape[1], dtype=np.float32)[:: 1 if shot.random() < 0.5 else -1]
            shadow[0] = shot.uniform(8, 25) * np.clip((shot.uniform(0.08, 0.2) - edge) / 0.08, 0, 1)
        return cls(
            muscle=1.5 * field(body, shape, (9, 6)),
            outside=4.0 * field(body, shape, (14, 12)),
            trabeculae=0.8 * field(body, shape, (14, 7)),
            shadow=shadow,
            haze=shot.uniform(-34, -20),
            dropout=shot.uniform(0, 11),
        )


def _chambers(
    heart: _Heart, moment: _Moment, now: _Shape, place: _Place, look: _Look, z: Floats
) -> tuple[Floats, Floats, Floats]:
    """Echo (dB), attenuation (dB/(cm MHz)) and the share of blood, on the coarse grid."""
    u, s = place.u, place.s
    cavity = np.minimum(place.inward(0, now.length, now.radius), now.length - s) + look.trabeculae
    outer = place.inward(-heart.apex_wall, now.length + heart.apex_wall, now.outer)
    outer = np.minimum(outer, now.length + 2 - s)

    # The right ventricle lies on the septum as a crescent and pulls in with the left, at its base deeper.
    pull = 1 - 0.5 * heart.ejection * moment.ejected
    wide = heart.right * pull
    septum = now.outer * np.sqrt(
        np.interp((s + heart.apex_wall) / (now.length + heart.apex_wall), _SIGMA, _PROFILE)
    )
    bulge = np.sqrt(np.clip(1 - (np.maximum(now.length - s, 0) / (0.78 * now.length)) ** 2, 0, 1))
    right = np.minimum(np.minimum(-u - septum, u + septum + wide * bulge), now.length - 4 - s)
    fill = 1 + 0.25 * moment.ejected  # atria fill while the ventricles empty
    left_atrium = _oval(
        place, 0.05 * now.radius, now.length + heart.atrium, 0.82 * heart.atrium, heart.atrium, fill
    )
    middle = -now.outer - 0.5 * heart.right
    right_atrium = _oval(place, middle, now.length + heart.atrium - 4, 0.8 * heart.atrium, heart.atrium, fill)
    atria = np.maximum(
        np.minimum(left_atrium, s - now.length - 1), np.minimum(right_atrium, s - now.length + 3)
    )

    soft = np.maximum.reduce([outer, right + 4.5, np.maximum(left_atrium, right_atrium) + 3.0])
    heart_share, blood = _share(soft, 1.5), _share(np.maximum.reduce([cavity, right, atria]), 1.2)
    lungs = OUTSIDE[0] + look.outside - 0.09 * np.maximum(z - 40, 0)
    echo = lungs + CHEST_WALL_DB * np.exp(-z / 9)
    echo += (MUSCLE[0] + look.muscle - echo) * heart_share
    # Where beam and muscle fibres run along each other little comes back: the free wall drops out.
    free = _share(u - 0.6 * now.radius, 8) * _share(s - 0.2 * now.length, 20) * heart_share
    echo -= look.dropout * free
    haze = look.haze - 0.3 * z
    pool = 10 * np.log10(10 ** (BLOOD[0] / 10) + 10 ** (haze / 10))
    echo += (pool - echo) * blood
    sac = np.exp(-((soft / 1.3) ** 2)) * _share(u + 0.3 * now.outer, 10)
    echo += PERICARDIUM_DB * sac
    for hinges in ((-0.8 * now.radius, 0.8 * now.radius), (-now.outer - 0.92 * wide, -now.outer)):
        base = now.length if hinges[1] > 0 else now.length - 4
        leaflets = _leaflets(place, hinges, base, moment.valves)
        echo += (VALVE_DB - echo) * leaflets
        blood = blood * (1 - leaflets)
    attenuation = OUTSIDE[1] + (MUSCLE[1] - OUTSIDE[1]) * heart_share
    attenuation = attenuation + (BLOOD[1] - MUSCLE[1]) * blood
    return (
        np.asarray(echo - look.shadow, np.float32),
        np.asarray(attenuation, np.float32),
        np.asarray(blood, np.float32),
    )


def _share(inward: Floats, edge: float) -> Floats:
    """From 0 outside to 1 inside over about ``edge`` mm."""
    return np.asarray(np.clip(0.5 + inward / (2 * edge), 0, 1), np.float32)


def _oval(place: _Place, u: float, s: float, wide: float, long: float, fill: float) -> Floats:
    """About how far points are inside an ellipse, in mm; ``fill`` scales it about its upper end."""
    s += (fill - 1) * long
    reach = np.hypot((place.u - u) / (wide * fill), (place.s - s) / (long * fill))
    return np.asarray((1 - reach) * min(wide, long) * fill, np.float32)


def _leaflets(place: _Place, hinges: tuple[float, float], base: float, opened: float) -> Floats:
    """Share of a valve's two leaflets; closed they meet in the middle, open they point to the apex."""
    middle, half = (hinges[0] + hinges[1]) / 2, (hinges[1] - hinges[0]) / 2
    total = np.zeros_like(place.u)
    for hinge in hinges:
        tip_u = middle + (hinge - middle) * 0.75 * opened
        tip_s = base - 5 - 0.75 * half * opened
        du, ds = tip_u - hinge, tip_s - base
        along = np.clip(((place.u - hinge) * du + (place.s - base) * ds) / (du * du + ds * ds), 0, 1)
        away = np.hypot(place.u - hinge - along * du, place.s - base - along * ds)
        total = np.maximum(total, np.exp(-((away / 1.3) ** 2)))
    return np.asarray(total, np.float32)


def _carried(tissue: Floats, heart: _Heart, rest: _Shape, now: _Shape, place: _Place, probe: Probe) -> Floats:
    """The scatterers ``[SAMPLES, LINES]`` of tissue that has moved with the heart since end-diastole."""
    along = np.where(place.s > 0, place.s * (rest.length / now.length), place.s)
    along = np.where(place.s > now.length, place.s + rest.length - now.length, along)
    beyond = 2.5 * rest.outer
    out = np.interp(
        np.abs(place.u), (0, now.radius, now.outer, beyond), (0, rest.radius, rest.outer, beyond)
    ) - np.abs(place.u)
    u = place.u + np.sign(place.u) * np.where(np.abs(place.u) < beyond, out, 0)
    cos, sin = np.cos(heart.tilt), np.sin(heart.tilt)
    x, z = 6 + cos * u + sin * along, heart.depth + cos * along - sin * u + probe.radius
    angle, reach = np.arctan2(x, z), np.hypot(x, z) - probe.radius
    rows = (reach * (SAMPLES / probe.depth)).astype(np.float32)
    columns = (angle * (probe.radius * LINES / probe.width) + (LINES - 1) / 2).astype(np.float32)
    fine = (LINES, SAMPLES)
    return np.asarray(
        cv2.remap(
            tissue,
            cv2.resize(columns, fine, interpolation=cv2.INTER_LINEAR),
            cv2.resize(rows, fine, interpolation=cv2.INTER_LINEAR),
            cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REFLECT,
        )
    )
