"""EEG as spectrograms: a minute of simulated brain waves, background or with a seizure.

Sixteen bipolar channels in four chains (left and right, temporal and parasagittal: the "double banana") carry
1/f activity that neighbours share, a posterior alpha rhythm that waxes and wanes, and what disturbs every
recording: blinks, muscle, electrode pops, drowsy slowing. A seizure is rhythmic, starts somewhere, spreads,
grows and slows down (ACNS terminology, Hirsch et al. 2021: evolution is what sets it apart from rhythmic
activity that is none, which background images have, too). The picture is a short-time Fourier transform: for
each chain, stacked from above LT, LP, RP, RT, power density against time and frequency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from edge.imaging.frame import Pixels
from trainer.data.phantoms.geometry import Floats

__all__ = ["CHAINS", "LABELS", "RATE", "Finding", "Recording", "record", "spectrogram"]

Finding = Literal["background", "seizure"]
LABELS: tuple[Finding, ...] = ("background", "seizure")

CHAINS = ("LT", "LP", "RP", "RT")
DERIVATIONS = 4  # bipolar channels of a chain, from front to back
RATE = 128  # samples a second
SECONDS = 64
WINDOW, HOP = 256, 64  # samples: 2 s, every half second
LOWEST_BIN, BINS = 1, 32  # of the transform: 0.5 to 16 Hz
FLOOR_DB, RANGE_DB = -12.0, 48.0  # microvolts squared a hertz, in decibels


@dataclass(frozen=True)
class Recording:
    """``microvolts`` float32 ``[4, 4, samples]`` by chain and derivation, at :data:`RATE`; ``pixels`` uint8
    ``[size, size]``, its spectrograms; ``mask`` uint8: 1 where there is a seizure, in its chains and time."""

    microvolts: Floats
    pixels: Pixels
    mask: Pixels


def record(
    finding: Finding, patient: np.random.SeedSequence, exposure: np.random.SeedSequence, size: int
) -> Recording:
    """One minute. ``patient`` seeds rhythms and the kind of seizure, ``exposure`` the minute and its
    artefacts."""
    body, shot = np.random.default_rng(patient), np.random.default_rng(exposure)
    waves = _background(body, shot)
    mask = np.zeros((len(CHAINS), SECONDS * RATE), np.float32)
    if finding == "seizure":
        added, mask = _seizure(body, shot)
        waves += added
    elif shot.random() < 0.35:
        waves += _slowing(shot)
    _artefacts(shot, waves)
    return Recording(waves, spectrogram(waves, size), _mask(mask, size))


def spectrogram(microvolts: Floats, size: int) -> Pixels:
    """uint8 ``[size, size]``: the chains' mean power density, low frequencies at the bottom of each strip.

    Hann windows of 2 s every half second; 0.5 to 16 Hz, :data:`FLOOR_DB` black, :data:`RANGE_DB` above it
    white.
    """
    strips = []
    hann = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    for chain in microvolts:
        frames = np.lib.stride_tricks.sliding_window_view(chain, WINDOW, axis=-1)[:, ::HOP]
        power = np.abs(np.fft.rfft(frames * hann, axis=-1)) ** 2 * (2 / (RATE * float((hann**2).sum())))
        mean = power[..., LOWEST_BIN : LOWEST_BIN + BINS].mean(0)
        strips.append(10 * np.log10(mean.T[::-1] + 1e-6))
    shown = np.clip((np.concatenate(strips) - FLOOR_DB) / RANGE_DB, 0, 1).astype(np.float32) * 255
    image = cv2.resize(shown, (size, size), interpolation=cv2.INTER_LINEAR if size > 96 else cv2.INTER_AREA)
    return np.asarray(image + 0.5, np.uint8)


def _mask(active: Floats, size: int) -> Pixels:
    rows = np.repeat(active[:, WINDOW // 2 : -WINDOW // 2 : HOP], BINS, axis=0)
    return np.asarray(cv2.resize(rows, (size, size), interpolation=cv2.INTER_LINEAR) > 0.5, np.uint8)


def _noise(rng: np.random.Generator, channels: int, slope: float) -> Floats:
    """Unit-variance noise ``[channels, samples]`` whose power falls with frequency to the power ``slope``."""
    samples = SECONDS * RATE
    frequency = np.fft.rfftfreq(samples, 1 / RATE)
    shape = np.where(frequency > 0.4, np.maximum(frequency, 0.4) ** (-slope / 2), 0)
    spectrum = np.fft.rfft(rng.standard_normal((channels, samples), np.float32), axis=-1) * shape
    waves = np.fft.irfft(spectrum, n=samples, axis=-1)
    return np.asarray(waves / waves.std(axis=-1, keepdims=True), np.float32)


def _slow(rng: np.random.Generator, seconds: float) -> Floats:
    """A smooth positive envelope about 1 that changes over ``seconds``."""
    knots = np.exp(0.6 * rng.standard_normal(max(4, int(SECONDS / seconds) + 2))).astype(np.float32)
    curve = cv2.resize(knots[None], (SECONDS * RATE, 1), interpolation=cv2.INTER_CUBIC)[0]
    return np.asarray(curve.clip(0.05), np.float32)


def _background(body: np.random.Generator, shot: np.random.Generator) -> Floats:
    slope, level = body.uniform(1.3, 2.1), body.uniform(7, 16)
    alpha, strength, skew = body.uniform(8.2, 11.5), body.uniform(2, 15), body.uniform(0.75, 1.3)
    common = _noise(shot, 3, slope)
    own = _noise(shot, len(CHAINS) * DERIVATIONS, slope)
    waves = np.empty((len(CHAINS), DERIVATIONS, SECONDS * RATE), np.float32)
    time = np.arange(SECONDS * RATE, dtype=np.float32) / RATE
    for chain in range(len(CHAINS)):
        left = chain < 2
        rhythm = np.sin(2 * np.pi * alpha * time + 1.5 * np.cumsum(_noise(shot, 1, 1.0)[0]) / RATE)
        rhythm *= _slow(shot, 3.0) * strength * (skew if left else 1 / skew)
        for derivation in range(DERIVATIONS):
            shared = 0.6 * common[0] + 0.6 * common[1 if left else 2]
            waves[chain, derivation] = level * (0.75 * own[chain * DERIVATIONS + derivation] + shared)
            waves[chain, derivation] += rhythm * (0.15, 0.3, 0.7, 1.0)[derivation]
    return waves


def _seizure(body: np.random.Generator, shot: np.random.Generator) -> tuple[Floats, Floats]:
    """Microvolts to add, and where they are: float ``[4, samples]``."""
    samples = SECONDS * RATE
    time = np.arange(samples, dtype=np.float32) / RATE
    first = int(body.integers(len(CHAINS)))
    spread = body.uniform(2, 14, len(CHAINS))  # seconds until a chain takes part
    spread[first] = 0
    taking_part = body.random(len(CHAINS)) < body.uniform(0.3, 1.0)  # a focal seizure stays at one side
    taking_part[first] = True
    start_hz, end_hz = body.uniform(4.5, 10), body.uniform(1.8, 3.5)
    onset = shot.uniform(3, 30)
    length = shot.uniform(18, 50)
    progress = np.clip((time - onset) / length, 0, 1)
    frequency = end_hz + (start_hz - end_hz) * (1 - progress) ** body.uniform(0.8, 1.8)
    phase = 2 * np.pi * np.cumsum(frequency * (1 + 0.03 * _noise(shot, 1, 1.0)[0])) / RATE
    sharpness = body.uniform(0.2, 0.9)
    wave = sum(sharpness ** (k - 1) / k * np.cos(k * phase) for k in (1, 2, 3, 4))
    peak = body.uniform(22, 75)
    grow = peak * (0.25 + 0.75 * np.clip(progress / 0.5, 0, 1)) * np.sqrt(_slow(shot, 6.0))
    waves = np.zeros((len(CHAINS), DERIVATIONS, samples), np.float32)
    mask = np.zeros((len(CHAINS), samples), np.float32)
    for chain in range(len(CHAINS)):
        if not taking_part[chain]:
            continue
        begins = onset + spread[chain]
        active = np.clip((time - begins) / 1.5, 0, 1) * np.clip((onset + length - time) / 0.8, 0, 1)
        near = 1.0 if chain == first else body.uniform(0.35, 0.9)
        weights = body.uniform(0.4, 1.0, DERIVATIONS)[:, None]
        waves[chain] = weights * (near * active * grow * wave)
        mask[chain] = active > 0.5
    return waves, mask


def _slowing(rng: np.random.Generator) -> Floats:
    """Rhythmic delta or theta that comes and goes without evolving: no seizure."""
    time = np.arange(SECONDS * RATE, dtype=np.float32) / RATE
    frequency = rng.uniform(1.2, 5.5)
    phase = 2 * np.pi * frequency * time + np.cumsum(_noise(rng, 1, 1.0)[0]) / RATE * 2
    runs = np.clip(2.5 * (_slow(rng, rng.uniform(2.5, 5)) - 1), 0, 1.4)
    at = rng.uniform(0.2, 1.0, (len(CHAINS), DERIVATIONS, 1))
    return np.asarray(at * rng.uniform(12, 40) * runs * np.sin(phase), np.float32)


def _artefacts(rng: np.random.Generator, waves: Floats) -> None:
    """Blinks in front, muscle at the temples, an electrode that pops, drift."""
    time = np.arange(SECONDS * RATE, dtype=np.float32) / RATE
    for _ in range(int(rng.poisson(6))):
        blink = rng.uniform(50, 130) * np.exp(-(((time - rng.uniform(0, SECONDS)) / 0.14) ** 2))
        waves[:, 0] += np.asarray(blink * rng.uniform(0.7, 1.0), np.float32)
    for chain in (0, 3):
        if rng.random() < 0.5:
            bursts = np.clip(_slow(rng, 4.0) - 1.1, 0, 2)
            waves[chain, :2] += rng.uniform(8, 40) * bursts * _noise(rng, 2, -0.3)
    if rng.random() < 0.35:
        chain, derivation = int(rng.integers(len(CHAINS))), int(rng.integers(DERIVATIONS))
        for _ in range(int(rng.integers(1, 6))):
            since = time - rng.uniform(0, SECONDS)
            pop = rng.uniform(80, 300) * np.exp(-np.maximum(since, 0) / 0.25)
            waves[chain, derivation] += np.where(since > 0, pop, 0).astype(np.float32)
    waves *= np.float32(rng.uniform(0.75, 1.3))  # skulls differ
