"""Curves with bands: what a receiver operating characteristic or a precision-recall curve may as well be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.metrics import roc_curve

__all__ = ["Curve", "average_precision", "precision_recall", "roc"]

Floats = NDArray[np.float64]
GRID = np.linspace(0, 1, 101)
RESAMPLES = 200


@dataclass(frozen=True)
class Curve:
    """A curve ``x[k], y[k]`` and its 95 % band ``low[101], high[101]`` over :data:`GRID`, pointwise."""

    x: Floats
    y: Floats
    low: Floats
    high: Floats


def roc(scores: NDArray[Any], positive: NDArray[np.bool_], seed: int = 0) -> Curve:
    """False against true positive rates of ``scores[n]``; both classes are there."""
    false, true, _ = roc_curve(scores, positive)
    return Curve(false, true, *_band(_roc_on_grid, scores, positive, seed))


def precision_recall(scores: NDArray[Any], positive: NDArray[np.bool_], seed: int = 0) -> Curve:
    """Recall against precision of ``scores[n]``; both classes are there. Precision depends on how common the
    class is among these images, and is another where it is rarer."""
    recall, precision = _precision_recall(scores, positive)
    return Curve(recall, precision, *_band(_precision_on_grid, scores, positive, seed))


def average_precision(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Area under the precision-recall curve as steps: the mean precision at each positive found."""
    recall, precision = _precision_recall(scores, positive)
    return float(np.sum(np.diff(recall) * precision[1:]))


def _precision_recall(scores: NDArray[Any], positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    false, true, _ = roc_curve(scores, positive)
    found, wrong = true * np.count_nonzero(positive), false * np.count_nonzero(~positive)
    precision = np.divide(found, found + wrong, out=np.ones_like(found), where=found + wrong > 0)
    return true, precision


def _roc_on_grid(scores: NDArray[Any], positive: NDArray[np.bool_]) -> Floats:
    false, true, _ = roc_curve(scores, positive)
    return np.asarray(np.interp(GRID, false, true))


def _precision_on_grid(scores: NDArray[Any], positive: NDArray[np.bool_]) -> Floats:
    recall, precision = _precision_recall(scores, positive)
    return np.asarray(precision[np.searchsorted(recall, GRID, side="left").clip(max=len(recall) - 1)])


def _band(
    on_grid: Callable[[NDArray[Any], NDArray[np.bool_]], Floats],
    scores: NDArray[Any],
    positive: NDArray[np.bool_],
    seed: int,
) -> tuple[Floats, Floats]:
    """Quantiles at each point of the grid over resamples within both classes."""
    random = np.random.default_rng(seed)
    groups = [np.flatnonzero(positive), np.flatnonzero(~positive)]
    curves = []
    for _ in range(RESAMPLES):
        draw = np.concatenate([group[random.integers(0, len(group), len(group))] for group in groups])
        curves.append(on_grid(scores[draw], positive[draw]))
    low, high = np.quantile(curves, [0.025, 0.975], axis=0)
    return low, high
