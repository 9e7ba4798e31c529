"""B-mode imaging of any tissue: from scatterers, echogenicity and attenuation to the picture on the screen.

Random point scatterers, weighted by the tissue's echogenicity, are convolved with an axially modulated pulse
(the radio-frequency lines), attenuated on the way down and back and amplified by a time-gain curve for
average tissue. Envelope by quadrature, focused beam width, logarithmic compression to 50-60 dB (Wagner et
al. 1983; Szabo, Diagnostic Ultrasound Imaging).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edge.imaging.frame import Pixels
from trainer.data.phantoms.geometry import Floats

__all__ = [
    "COARSE",
    "ENVELOPE",
    "LINES",
    "SAMPLES",
    "SPEED",
    "TGC",
    "Display",
    "Probe",
    "grid",
    "receive",
    "screen",
]

SPEED = 1.54  # mm per microsecond in soft tissue
TGC = 0.62  # dB/(cm MHz): average soft tissue

LINES, SAMPLES, ENVELOPE = 224, 1536, 512
COARSE = 4  # tissue is drawn on every 4th sample in depth


@dataclass(frozen=True)
class Probe:
    """A transducer: ``width`` of its face and ``depth`` seen in mm, centre frequency, relative bandwidth,
    ``focus`` as a share of the depth, the ``radius`` of a convex face in mm (linear: infinite), the width of
    its ``beam`` in focus and out of it, as standard deviations in lines, and ``tgc``, the attenuation in
    dB/(cm MHz) that the time-gain curve makes up for."""

    width: float
    depth: float
    mhz: float
    bandwidth: float
    focus: float
    radius: float
    beam: tuple[float, float]
    tgc: float = TGC


def grid(probe: Probe, shape: tuple[int, ...], lines: int = LINES) -> tuple[Floats, Floats]:
    """Position in mm of the coarse grid's points: x across, z below the middle of the probe's face."""
    z = np.arange(shape[0], dtype=np.float32)[:, None] * np.float32(COARSE * probe.depth / SAMPLES)
    x = (np.arange(shape[1], dtype=np.float32)[None] - (shape[1] - 1) / 2) * np.float32(probe.width / lines)
    if np.isinf(probe.radius):
        return np.broadcast_to(x, shape).astype(np.float32), np.broadcast_to(z, shape).astype(np.float32)
    angle, reach = x / np.float32(probe.radius), z + np.float32(probe.radius)
    below = reach * np.cos(angle) - np.float32(probe.radius)
    return np.asarray(reach * np.sin(angle), np.float32), np.asarray(below, np.float32)


def receive(
    rng: np.random.Generator, probe: Probe, scatterers: Floats, echo: Floats, attenuation: Floats
) -> Floats:
    """Envelope ``[ENVELOPE, lines]`` of the beam-formed lines, after the time-gain curve: about 1 at 0 dB.

    ``scatterers [SAMPLES, lines]``; ``echo`` (dB) and ``attenuation`` (dB/(cm MHz)) on the coarse grid,
    ``[SAMPLES / COARSE, lines]``."""
    step_cm = COARSE * probe.depth / SAMPLES / 10
    lost = np.cumsum(attenuation, axis=0) * np.float32(2 * step_cm * probe.mhz)
    way = np.arange(len(echo), dtype=np.float32)[:, None] * np.float32(step_cm)
    gain = np.float32(2 * probe.tgc * probe.mhz) * way
    level = cv2.resize(echo + gain - lost, scatterers.shape[::-1], interpolation=cv2.INTER_LINEAR)
    lines = scatterers * np.power(np.float32(10), level / 20)

    # The pulse passes only a band of frequencies; taken out of the spectrum and turned back on its own, it
    # is the quadrature signal of the RF line on a coarser grid: same envelope.
    cycles = np.arange(SAMPLES // 2 + 1, dtype=np.float32) / np.float32(probe.depth)
    centre = np.float32(2 * probe.mhz / SPEED)
    pulse = np.exp(-0.5 * ((cycles - centre) / (centre * np.float32(probe.bandwidth / 2.355))) ** 2)
    first = min(max(0, round(centre * probe.depth) - ENVELOPE // 2), len(pulse) - ENVELOPE)
    band = np.s_[first : first + ENVELOPE]
    pulse *= ENVELOPE / np.sqrt((pulse[band] ** 2).sum() * SAMPLES)
    quadrature = np.fft.ifft(np.fft.rfft(lines, axis=0)[band] * pulse[band, None], axis=0)
    parts = np.stack([quadrature.real, quadrature.imag], axis=-1).astype(np.float32)

    depth = np.linspace(0, 1, ENVELOPE, dtype=np.float32)[:, None, None]
    in_focus = np.exp(-(((depth - probe.focus) / 0.3) ** 2))
    near_blur, far_blur = (_across(parts, sigma) for sigma in probe.beam)
    parts = near_blur * in_focus + far_blur * (1 - in_focus)
    floor = np.power(np.float32(10), (-58 + 0.55 * np.linspace(0, float(gain[-1, 0]), ENVELOPE)) / 20)
    parts += floor.astype(np.float32)[:, None, None] * rng.standard_normal(parts.shape, np.float32)
    return np.asarray(cv2.magnitude(parts[..., 0], parts[..., 1]), np.float32)


def _across(parts: Floats, sigma: float) -> Floats:
    """Beam width: a Gaussian across the lines that keeps the power of white noise."""
    kernel = cv2.getGaussianKernel(int(6 * sigma) | 1, sigma).astype(np.float32)
    kernel /= np.sqrt((kernel**2).sum())
    one = np.ones((1, 1), np.float32)
    return np.asarray(cv2.sepFilter2D(parts, cv2.CV_32F, kernel, one, borderType=cv2.BORDER_REFLECT))


class Display:
    """Scan conversion and logarithmic compression, the same through a clip."""

    def __init__(self, rng: np.random.Generator, probe: Probe, size: int) -> None:
        self._size = size
        self._range_db = rng.uniform(50, 60)
        self._gain_db = rng.uniform(-11, 0)
        self._reference: float | None = None
        self._map = None if np.isinf(probe.radius) else _sector(probe, size)

    def show(self, envelope: Floats) -> Pixels:
        """uint8 ``[size, size]``; outside a sector black."""
        rows = min(2 * self._size, ENVELOPE)
        power = cv2.resize(envelope, (envelope.shape[1], rows), interpolation=cv2.INTER_AREA)
        level = 20 * np.log10(np.maximum(power, 1e-6))
        if self._reference is None:
            self._reference = float(np.percentile(level, 99.5))
        shown = np.clip(1 + (level - self._reference + self._gain_db) / self._range_db, 0, 1)
        image = self._convert(np.asarray(shown * 255, np.float32), cv2.INTER_LINEAR)
        return np.asarray(np.clip(image + 0.5, 0, 255), np.uint8)

    def show_mask(self, inside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], label: int) -> Pixels:
        """uint8 ``[size, size]``: ``label`` where inside, else 0."""
        shown = self._convert(inside.astype(np.float32), cv2.INTER_LINEAR)
        return np.where(shown > 0.5, label, 0).astype(np.uint8)

    def _convert(self, lines: Floats, interpolation: int) -> Floats:
        if self._map is None:
            shrink = cv2.INTER_AREA if len(lines) >= self._size <= lines.shape[1] else interpolation
            return np.asarray(cv2.resize(lines, (self._size, self._size), interpolation=shrink))
        depth, across = self._map
        return np.asarray(
            cv2.remap(lines, across * (lines.shape[1] - 1), depth * (len(lines) - 1), interpolation)
        )


def screen(probe: Probe, size: int) -> tuple[Floats, Floats, float]:
    """Position in mm of each pixel of a convex probe's picture ``[size, size]``, x across and z below the
    middle of its face, and the millimetres of a pixel."""
    half = probe.width / 2 / probe.radius
    height = probe.depth + probe.radius * (1 - np.cos(half))
    width = 2 * (probe.radius + probe.depth) * np.sin(half)
    scale = max(height, width) / size
    axis = np.arange(size, dtype=np.float32) * np.float32(scale)
    x, z = np.meshgrid(axis - axis.mean(), axis + np.float32(probe.radius * (np.cos(half) - 1)))
    return x, z, float(scale)


def _sector(probe: Probe, size: int) -> tuple[Floats, Floats]:
    """Where each pixel of the picture lies in the fan: shares of depth and of the lines; outside 0..1 if
    beside."""
    half = probe.width / 2 / probe.radius
    x, z, _ = screen(probe, size)
    reach, angle = np.hypot(x, z + np.float32(probe.radius)), np.arctan2(x, z + np.float32(probe.radius))
    depth, across = (reach - probe.radius) / probe.depth, 0.5 + angle / (2 * half)
    beside = (depth < 0) | (depth > 1) | (across < 0) | (across > 1)
    outside = np.float32(-10)
    return np.where(beside, outside, depth).astype(np.float32), np.where(beside, outside, across).astype(
        np.float32
    )
