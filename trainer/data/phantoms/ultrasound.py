"""B-mode breast ultrasound of speckle, stills and cine clips, with a cyst, a solid mass or nothing.

Enhancement behind a cyst and the shadow behind a mass follow from attenuation alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from edge.imaging.frame import Pixels
from trainer.data.phantoms.bmode import COARSE, LINES, SAMPLES, Display, Probe, grid, receive
from trainer.data.phantoms.geometry import Floats, field

__all__ = ["LABELS", "Clip", "Finding", "clip"]

Finding = Literal["normal", "cyst", "mass"]
LABELS: tuple[Finding, ...] = ("normal", "cyst", "mass")

# Echogenicity in dB against glandular tissue, attenuation in dB/(cm MHz): rounded from ICRU report 61.
SKIN, FAT, GLAND, MUSCLE, FLUID = (2.0, 1.0), (-12.0, 0.45), (0.0, 0.7), (-9.0, 0.75), (-60.0, 0.05)
SEPTUM_DB, FASCIA_DB, WALL_DB = 11.0, 9.0, 3.0

MARGIN_LINES, MARGIN_SAMPLES = 48, 96  # tissue beside and below the first frame, for the probe to move over


@dataclass(frozen=True)
class Clip:
    """``frames`` and ``masks`` uint8 ``[t, h, w]``; a mask holds 0, or the finding's index in ``LABELS``."""

    frames: Pixels
    masks: Pixels


@dataclass(frozen=True)
class _Lesion:
    """Where it is and how it looks: centre and semi-axes in mm, outline, edge width, echo, attenuation."""

    label: int
    x: float
    z: float
    across: float
    deep: float
    waves: tuple[tuple[int, float, float], ...]
    edge: float
    echo: float
    attenuation: float
    texture: float


def clip(
    finding: Finding,
    patient: np.random.SeedSequence,
    exposure: np.random.SeedSequence,
    size: int,
    frames: int = 1,
) -> Clip:
    """A clip of ``frames`` images ``[size, size]``; one frame is a still.

    ``patient`` seeds tissue and finding; ``exposure`` probe, gain, motion and the slice's scatterers.
    Through a clip the probe drifts and the patient breathes: speckle moves with the tissue and changes
    slowly with the slice.
    """
    body, shot = np.random.default_rng(patient), np.random.default_rng(exposure)
    probe = _probe(shot)
    echo, attenuation, floor = _tissue(body, probe)
    lesion = None if finding == "normal" else _lesion(body, finding, probe, floor)
    texture = field(body, (echo.shape[0], echo.shape[1]), (6, 6))
    shape = (SAMPLES + MARGIN_SAMPLES, LINES + MARGIN_LINES)
    slices = [shot.standard_normal(shape, np.float32) for _ in range(2 if frames > 1 else 1)]
    display = Display(shot, probe, size)
    images, masks = [], []
    for down, across, turn in _motion(shot, frames):
        echo_now, attenuation_now, inside = echo, attenuation, np.zeros_like(echo)
        if lesion:
            inside = _inside(lesion, probe, echo.shape, float(np.cos(turn)))
            echo_now = _echo_with(lesion, texture, echo, inside)
            attenuation_now = attenuation + (lesion.attenuation - attenuation) * inside
        part = np.s_[down // COARSE : (down + SAMPLES) // COARSE, across : across + LINES]
        fine = np.s_[down : down + SAMPLES, across : across + LINES]
        scatterers = slices[0][fine]
        if frames > 1:
            scatterers = np.float32(np.cos(turn)) * scatterers + np.float32(np.sin(turn)) * slices[1][fine]
        envelope = receive(shot, probe, scatterers, echo_now[part], attenuation_now[part])
        images.append(display.show(envelope))
        masks.append(display.show_mask(inside[part] > 0.5, lesion.label if lesion else 0))
    return Clip(np.stack(images), np.stack(masks))


def _probe(rng: np.random.Generator) -> Probe:
    width = rng.uniform(34, 44)
    convex = rng.random() < 0.25
    return Probe(
        width=width,
        depth=width * (1.5 if convex else 1.0),
        mhz=rng.uniform(4.0, 5.5) if convex else rng.uniform(5.5, 7.5),
        bandwidth=rng.uniform(0.45, 0.65),
        focus=rng.uniform(0.3, 0.6),
        radius=rng.uniform(50, 65) if convex else np.inf,
        beam=(0.24 * LINES / width, 0.55 * LINES / width),
    )


def _motion(rng: np.random.Generator, frames: int) -> list[tuple[int, int, float]]:
    """Of each frame: samples down, lines across, and the turn in radians from one slice's scatterers to
    another's."""
    if frames == 1:
        return [(0, MARGIN_LINES // 2, 0.0)]
    time = np.linspace(0, 1, frames)
    breath = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.5, 1.5) * time + rng.random()))
    drift = rng.uniform(0.2, 1.0) * (time if rng.random() < 0.5 else 1 - time)
    down = (breath * rng.uniform(0.3, 1.0) * MARGIN_SAMPLES).astype(int) // COARSE * COARSE
    across = np.round(drift * (MARGIN_LINES - 1)).astype(int)
    turn = rng.uniform(0.3, 1.0) * (time - rng.random())
    return [(int(d), int(a), float(t)) for d, a, t in zip(down, across, turn, strict=True)]


def _tissue(rng: np.random.Generator, probe: Probe) -> tuple[Floats, Floats, tuple[float, float]]:
    """Echo (dB) and attenuation (dB/(cm MHz)) on the coarse grid, and the glandular layer's depths in mm.

    Layers lie against the probe's face: skin, subcutaneous fat with Cooper's ligaments, gland, fat, pectoral
    muscle."""
    rows, columns = (SAMPLES + MARGIN_SAMPLES) // COARSE, LINES + MARGIN_LINES
    dz, dx = COARSE * probe.depth / SAMPLES, probe.width / LINES
    depth = np.arange(rows, dtype=np.float32)[:, None] * np.float32(dz)

    def texture(deep: float, across: float) -> Floats:
        return field(rng, (rows, columns), (max(1.0, deep / dz), max(1.0, across / dx)))

    def wavy(mm: float, by: float) -> Floats:
        surface = mm + by * field(rng, (4, columns), (9, 15 / dx))[:1]
        return np.asarray(surface, np.float32)

    skin = wavy(rng.uniform(1.0, 2.0), 0.1)
    fat = wavy(rng.uniform(5.0, 9.5), 1.0)
    gland = wavy(rng.uniform(21.0, 26.0), 0.9)
    retro = gland + rng.uniform(0.8, 2.5)
    echo = np.full((rows, columns), FAT[0], np.float32)
    attenuation = np.full((rows, columns), FAT[1], np.float32)
    septa = np.exp(-((texture(4.5, 7.0) / 0.13) ** 2)) + 0.6 * np.exp(-((texture(2.5, 5.0) / 0.12) ** 2))
    echo += 1.5 * texture(0.8, 1.5) + SEPTUM_DB * np.clip(septa, 0, 1)
    lobules = np.clip(texture(2.2, 4.5) - rng.uniform(0.6, 1.4), 0, 1)
    body = GLAND[0] + 2.5 * texture(1.0, 2.5) + (FAT[0] - GLAND[0]) * 0.8 * lobules
    fibres = 5 * texture(0.4, 9.0) + 2 * texture(0.25, 3.0)
    for top, bottom, (_, lost), look in (
        (np.zeros_like(skin), skin, SKIN, np.full_like(echo, SKIN[0])),
        (fat, gland, GLAND, body),
        (retro, np.full_like(skin, 1e3), MUSCLE, MUSCLE[0] + fibres),
    ):
        inside = _between(depth, top, bottom)
        echo += (look - echo) * inside
        attenuation += (lost - attenuation) * inside
    for surface, bright in ((skin, 4.0), (retro, FASCIA_DB)):
        echo += bright * np.exp(-(((depth - surface) / 0.3) ** 2))
    return echo, attenuation, (float(fat.mean()), float(gland.mean()))


def _between(depth: Floats, top: Floats, bottom: Floats) -> Floats:
    """1 between two surfaces, 0 outside, over 0.3 mm."""
    return np.asarray(np.clip((depth - top) / 0.3, 0, 1) * np.clip((bottom - depth) / 0.3, 0, 1), np.float32)


def _lesion(rng: np.random.Generator, finding: Finding, probe: Probe, gland: tuple[float, float]) -> _Lesion:
    top, bottom = gland
    half = rng.uniform(2.6, 7.0)
    flat = rng.uniform(0.6, 0.9) if finding == "cyst" else rng.uniform(0.65, 1.35)
    across, deep = half, min(half * flat, 0.48 * (bottom - top))
    reach = max(0.0, probe.width / 2 - across - 3)
    x = rng.uniform(-reach, reach)
    z = rng.uniform(top + 0.9 * deep, bottom - 0.8 * deep)
    label = LABELS.index(finding)
    if finding == "cyst":
        waves = tuple((k, rng.uniform(0, 0.035), rng.uniform(0, 6.3)) for k in (2, 3))
        return _Lesion(label, x, z, across, deep, waves, 0.12, FLUID[0] + rng.uniform(0, 32), FLUID[1], 0.0)
    rough = rng.uniform(0.1, 0.24)
    waves = tuple((k, rough * rng.uniform(0.3, 1) / k**0.6, rng.uniform(0, 6.3)) for k in range(2, 12))
    echo, lost = rng.uniform(-21, -13), rng.uniform(1.2, 2.2)
    return _Lesion(label, x, z, across, deep, waves, rng.uniform(0.25, 0.6), echo, lost, 2.5)


def _inside(lesion: _Lesion, probe: Probe, shape: tuple[int, ...], scale: float) -> Floats:
    """From 0 outside the lesion to 1 inside; ``scale`` of its size is what the slice cuts."""
    x, z = grid(probe, shape)
    u, v = (x - lesion.x) / (lesion.across * scale), (z - lesion.z) / (lesion.deep * scale)
    angle = np.arctan2(v, u)
    outline = 1 + sum(size * np.cos(k * angle + phase) for k, size, phase in lesion.waves)
    inward = (outline - np.hypot(u, v)) * min(lesion.across, lesion.deep) * scale
    return np.asarray(1 / (1 + np.exp(-np.clip(inward / (lesion.edge / 2), -30, 30))), np.float32)


def _echo_with(lesion: _Lesion, texture: Floats, echo: Floats, inside: Floats) -> Floats:
    """The lesion in place of tissue; a smooth wall across the beam reflects like a mirror."""
    echo = echo + (lesion.echo + lesion.texture * texture - echo) * inside
    if LABELS[lesion.label] == "cyst":
        across_beam = np.abs(cv2.Sobel(inside, cv2.CV_32F, 0, 1, ksize=3)) / 4
        echo = echo + (GLAND[0] + WALL_DB - echo) * np.minimum(1, 2 * across_beam)
    return np.asarray(echo, np.float32)
