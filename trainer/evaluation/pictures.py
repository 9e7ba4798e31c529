"""Held-out images for the report: what the network saw, and where it looked."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.overlay import overlay_png
from edge.inference.prediction import Prediction
from trainer.preparation import Part

__all__ = ["Picture", "examples", "mistakes", "picture"]

SHOWN_SIDE = 192
EXAMPLES_A_CLASS = 2
MOST_CLASSES = 8
MOST_MISTAKES = 12


@dataclass(frozen=True)
class Picture:
    """An image, the same with its heat map where the network has one (data URIs), and what was said of it."""

    image: str
    overlay: str | None
    name: str
    truth: str
    predicted: str
    probability: float
    right: bool


def examples(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> list[int]:
    """Right answers, the middling ones of each class: neither the easiest nor the luckiest. Single-label."""
    chosen: list[int] = []
    for column in range(min(scores.shape[1], MOST_CLASSES)):
        right = np.flatnonzero((truth == column) & (scores.argmax(axis=1) == column))
        ranked = right[np.argsort(scores[right, column], kind="stable")]
        middle = max(0, (len(ranked) - EXAMPLES_A_CLASS) // 2)
        chosen += [int(index) for index in ranked[middle : middle + EXAMPLES_A_CLASS]]
    return chosen


def mistakes(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> list[int]:
    """Wrong answers, the most confident first. Single-label."""
    wrong = np.flatnonzero(scores.argmax(axis=1) != truth)
    return [int(index) for index in wrong[np.argsort(-scores[wrong].max(axis=1), kind="stable")]][
        :MOST_MISTAKES
    ]


def picture(
    index: int,
    part: Part,
    predictions: Sequence[Prediction],
    scores: NDArray[np.float64],
    labels: Sequence[str],
) -> Picture:
    """Image ``index`` of a part, with the class activation map of the class that was predicted."""
    predicted = int(scores[index].argmax())
    cam = predictions[index].cam
    pixels = part.loaded.pixels[index]
    scale = SHOWN_SIDE / max(pixels.shape[:2])
    shown = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)
    truth = ", ".join(part.loaded.samples[index].labels)
    return Picture(
        image=_uri(bytes(cv2.imencode(".png", shown[..., ::-1] if shown.ndim == 3 else shown)[1])),
        overlay=None if cam is None else _uri(overlay_png(shown, cam[..., predicted])),
        name=part.loaded.samples[index].name,
        truth=truth,
        predicted=labels[predicted],
        probability=float(scores[index, predicted]),
        right=labels[predicted] == truth,
    )


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
