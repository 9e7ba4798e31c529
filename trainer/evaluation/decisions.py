"""What turns probabilities into decisions, temperature and thresholds, fitted on the tuning images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Task, Threshold

__all__ = ["fit_temperature", "fit_thresholds", "negative_log_likelihood"]

COLDEST, HOTTEST = 0.25, 10.0

SITE_MAY_LOSE = 0.10
"""Sensitivity that a site may give up against the aim, by moving a threshold up."""
SITE_AT_MOST = 0.9

LEAST_THRESHOLD = 0.001

Floats = NDArray[np.float64]


def negative_log_likelihood(
    logits: NDArray[Any], targets: NDArray[Any], task: Task, temperature: float
) -> float:
    """Mean negative log-likelihood of ``targets[n, K]`` (0 and 1) under ``logits[n, K] / temperature``."""
    scaled = np.asarray(logits, np.float64) / temperature
    if task == "single-label":
        losses = np.logaddexp.reduce(scaled, axis=1) - (scaled * targets).sum(axis=1)
    else:
        losses = np.logaddexp(0.0, scaled) - scaled * targets
    return float(losses.mean())


def fit_temperature(logits: NDArray[Any], targets: NDArray[Any], task: Task) -> float:
    """The temperature in 0.25..10 under which ``targets`` are likeliest (Guo et al. 2017).

    Few images that are all told apart would ask for certainty without end; Platt's targets (1999), as if one
    more image of each kind had been mistaken, do not. The search is over the logarithm, in which the loss has
    a single minimum, and narrows to one per mille.
    """
    targets = _doubted(targets, task)
    low, high = math.log(COLDEST), math.log(HOTTEST)
    while high - low > 1e-3:
        grid = np.linspace(low, high, 9)
        losses = [negative_log_likelihood(logits, targets, task, math.exp(point)) for point in grid]
        best = int(np.argmin(losses))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 8)]
    return round(math.exp((low + high) / 2), 4)


def fit_thresholds(
    probabilities: Floats,
    targets: NDArray[Any],
    labels: Sequence[str],
    negative_label: str | None,
    task: Task,
    sensitivity: float,
) -> dict[str, Threshold]:
    """A threshold for every label but the negative one.

    Its value is the largest that at least ``sensitivity`` of the label's tuning images reach, but never so
    high that the likeliest label could be passed over: at most 1/K, and at most 0.5 in multi-label data. With
    more than four classes the cap stays at 0.25, or everything would be an alarm. A site may move it down to
    a half, or to where every tuning image of the label is found if that is lower; and up to where
    ``sensitivity`` is missed by 0.1, at most to 0.9.

    Args:
        probabilities: calibrated, float ``[n, K]``.
        targets: zeros and ones ``[n, K]``.
        labels: names of the K columns.
        negative_label: the one that means nothing was found, if any.
        task: of the model; the labels of a segmentation are judged as multi-label.
        sensitivity: aimed at, 0..1.
    """
    cap = 0.5 if task != "single-label" else max(1 / len(labels), 0.25)
    thresholds = {}
    for column, label in enumerate(labels):
        positives = probabilities[targets[:, column] > 0.5, column]
        if label == negative_label or not len(positives):
            continue
        value = min(_reaching(positives, sensitivity), cap)
        thresholds[label] = Threshold(
            value=value,
            min=min(value / 2, _reaching(positives, 1.0)),
            max=max(value, min(SITE_AT_MOST, _reaching(positives, max(0.0, sensitivity - SITE_MAY_LOSE)))),
        )
    return thresholds


def _doubted(targets: NDArray[Any], task: Task) -> Floats:
    """Targets ``[n, K]`` with ``(count + 1) / (count + 2)`` for 1, and what that leaves for 0."""
    present = targets.sum(axis=0)
    if task != "single-label":
        absent = len(targets) - present
        return np.asarray(np.where(targets > 0.5, (present + 1) / (present + 2), 1 / (absent + 2)))
    doubt = (targets / (present + 2)).sum(axis=1, keepdims=True)
    return np.asarray(np.where(targets > 0.5, 1 - doubt, doubt / (targets.shape[1] - 1)))


def _reaching(positives: Floats, sensitivity: float) -> float:
    """Largest threshold that at least ``sensitivity`` of ``positives`` reach, rounded down to 4 digits."""
    ordered = np.sort(positives)[::-1]
    # The product may come out a hair above a whole number.
    needed = max(1, math.ceil(sensitivity * len(ordered) - 1e-9))
    return max(LEAST_THRESHOLD, math.floor(float(ordered[needed - 1]) * 1e4) / 1e4)
