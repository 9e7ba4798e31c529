"""Image quality: five measures of an image, limits on them, and why an image outside gets no result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from edge.bundle.manifest import QualityLimits, Range
from edge.bundle.reasons import Reason
from edge.bundle.steps import Grayscale
from edge.imaging.frame import Pixels
from edge.imaging.steps import apply_steps

__all__ = ["check", "fit_limits", "measure"]

_SAMPLED_SIDE = 160  # enough pixels for a mean and a standard deviation
_BLANK = 1.5
_BOUNDS = 6  # brightness, sharpness (two each), contrast and colour
_MARGIN = 0.25
_FLAT = 1e-4  # a sharpness below which all are equally blurred
_LEAST_COLOUR = 5.0  # what JPEG and scanners leave in a gray picture
_LARGEST_MIN_SIDE = 64


def measure(pixels: Pixels, model_pixels: Pixels) -> dict[str, float]:
    """Measure an image.

    Args:
        pixels: the frame, uint8 ``[H, W]`` or ``[H, W, 3]``; of a large one regularly spaced pixels are used.
        model_pixels: the same after the steps.

    Returns:
        ``side``: the frame's shorter side, pixels. ``brightness`` and ``contrast``: mean and standard
        deviation of its gray values, 0..255. ``colour``: mean of ``max(R, G, B) - min(R, G, B)``, 0 for gray.
        ``sharpness``: variance of the Laplacian (4 neighbours) of the gray ``model_pixels`` over their own
        variance, 0..64 and 0 where that is 0: near 0 when blurred, 20 for white noise of any strength (after
        Pech-Pacheco et al. 2000, who do not divide).
    """
    side = min(pixels.shape[:2])
    stride = max(1, side // _SAMPLED_SIDE)
    sampled = np.ascontiguousarray(pixels[::stride, ::stride])
    gray, model_gray = (apply_steps(image, [Grayscale()]) for image in (sampled, model_pixels))
    mean, deviation = cv2.meanStdDev(gray)
    _, spread = cv2.meanStdDev(model_gray)
    laplacian = cv2.Laplacian(model_gray, cv2.CV_16S)
    # Mean of squares less square of mean: exact sums of integers, at a tenth of meanStdDev's time.
    roughness = cv2.norm(laplacian) ** 2 / laplacian.size - cv2.mean(laplacian)[0] ** 2
    colour = 0.0
    if sampled.ndim == 3:
        red, green, blue = cv2.split(sampled)
        range_ = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
        colour = cv2.mean(range_)[0]
    return {
        "side": float(side),
        "brightness": mean.item(),
        "contrast": deviation.item(),
        "sharpness": max(0.0, roughness) / spread.item() ** 2 if spread.item() else 0.0,
        "colour": colour,
    }


def check(measures: Mapping[str, float], limits: QualityLimits) -> tuple[Reason, ...]:
    """Why an image with these measures gets no result; empty if nothing is wrong.

    Contrast above its limit counts as noise. Of an image that is blank only that is said, and its size.
    """
    reasons = [Reason.TOO_SMALL] if measures["side"] < limits.min_side else []
    contrast = measures["contrast"]
    if contrast < min(_BLANK, limits.contrast.min):
        return (*reasons, Reason.BLANK)
    outside = {
        Reason.TOO_DARK: measures["brightness"] < limits.brightness.min,
        Reason.TOO_BRIGHT: measures["brightness"] > limits.brightness.max,
        Reason.LOW_CONTRAST: contrast < limits.contrast.min,
        Reason.BLURRED: measures["sharpness"] < limits.sharpness.min,
        Reason.NOISY: measures["sharpness"] > limits.sharpness.max or contrast > limits.contrast.max,
        Reason.UNEXPECTED_COLOUR: measures["colour"] > limits.max_colour,
    }
    return (*reasons, *(reason for reason, holds in outside.items() if holds))


def fit_limits(measures: Sequence[Mapping[str, float]], rejection: float) -> QualityLimits:
    """Limits that images like those measured pass.

    The share ``rejection`` is divided among the bounds; each lies at its share's quantile, and beyond that by
    a quarter of the quantile's distance from the median, so that new images of the kind are rejected more
    rarely still. Sharpness is taken by its logarithm. A blank image never passes. Contrast has no upper
    bound: what is too rough is too sharp.

    Args:
        measures: of :func:`measure`, of in-distribution images; without any, the defaults are returned.
        rejection: 0..1, the most of them that may be rejected.
    """
    if not measures:
        return QualityLimits()
    values = {key: np.sort([each[key] for each in measures]) for key in measures[0]}
    values["sharpness"] = np.log(values["sharpness"] + _FLAT)
    outside = int(rejection / _BOUNDS * len(measures))

    def bound(key: str, at: int) -> float:
        far, middle = values[key][at], np.median(values[key])
        return float(far + _MARGIN * (far - middle))

    def both(key: str) -> tuple[float, float]:
        return bound(key, outside), bound(key, -1 - outside)

    dark, bright = both("brightness")
    blurred, noisy = (max(0.0, math.exp(each) - _FLAT) for each in both("sharpness"))
    least_side = int(values["side"][0])
    return QualityLimits(
        min_side=max(1, min(least_side // 2, _LARGEST_MIN_SIDE)),
        brightness=Range(min=max(0.0, dark), max=min(255.0, bright)),
        contrast=Range(min=max(_BLANK, both("contrast")[0]), max=128),
        sharpness=Range(min=blurred, max=noisy),
        max_colour=max(_LEAST_COLOUR, both("colour")[1]),
    )
