"""How good a classifier is: numbers from probabilities and truth, in numpy alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Interval, LabelMetrics, Task, VariantMetrics

__all__ = [
    "accuracy",
    "auroc",
    "confusion",
    "ece",
    "mean_auroc",
    "one_vs_rest",
    "positive_class",
    "roc_curve",
    "summarize",
    "variant_metrics",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def auroc(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve: the chance that a positive outscores a negative, a tie counting half.

    Computed from midranks (Mann-Whitney U; Hanley and McNeil 1982).

    Args:
        scores: ``[n]``.
        positive: ``[n]``, the truth.

    Returns:
        0 to 1; None where one of the two classes is absent.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    n_positive = int(np.count_nonzero(positive))
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return None
    midranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(midranks[place.reshape(-1)][positive].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def roc_curve(scores: NDArray[Any], positive: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """The ROC curve, one point for each distinct score.

    Args:
        scores: ``[n]``.
        positive: ``[n]``, the truth; both classes are there.

    Returns:
        False positive rates, true positive rates and thresholds (positive at or above), each ``[k + 1]``; the
        first point is (0, 0) at infinity.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], positive[order]
    last = np.flatnonzero(np.append(np.diff(ranked), 1))
    true = np.cumsum(hits)[last]
    false = 1 + last - true
    start = np.zeros(1)
    return (
        np.concatenate([start, false / max(int(false[-1]), 1)]),
        np.concatenate([start, true / max(int(true[-1]), 1)]),
        np.concatenate([[np.inf], ranked[last]]),
    )


def confusion(predicted: Ints, truth: Ints, classes: int) -> Ints:
    """Counts ``[true, predicted]``, ``[classes, classes]``."""
    counts = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def accuracy(probabilities: Floats, truth: Ints) -> float | None:
    """Share of images whose most probable class is the true one; None without images."""
    return float(np.mean(probabilities.argmax(axis=1) == truth)) if len(truth) else None


def ece(confidence: Floats, correct: NDArray[np.bool_], bins: int = 15) -> float | None:
    """Expected calibration error over equal-width bins (Guo et al. 2017, arXiv:1706.04599).

    Args:
        confidence: ``[n]``, probability of the predicted class; bin ``i`` holds ``(i/bins, (i+1)/bins]``.
        correct: ``[n]``, whether the prediction was right.
        bins: their number.

    Returns:
        0 to 1; None without images.
    """
    if not len(confidence):
        return None
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def positive_class(labels: Sequence[str], negative_label: str | None) -> int | None:
    """Index of the class that a binary AUROC is about: the one that is not negative, else the second.

    None with more than two classes.
    """
    if len(labels) != 2:
        return None
    return 1 - labels.index(negative_label) if negative_label in labels else 1


def mean_auroc(probabilities: Floats, truth: NDArray[Any], positive: int | None = None) -> float | None:
    """AUROC of class ``positive`` where given, else the mean over the classes, each against the rest.

    Args:
        probabilities: ``[n, C]``.
        truth: class indices ``[n]``, or for multi-label 0 and 1 ``[n, C]``.
        positive: a class index.

    Returns:
        0 to 1; None where it is undefined for a class that counts (a class that no image has is left out).
    """
    known = one_vs_rest(truth, probabilities.shape[1])
    if positive is not None:
        return auroc(probabilities[:, positive], known[:, positive])
    present = [c for c in range(probabilities.shape[1]) if known[:, c].any()]
    values = [auroc(probabilities[:, c], known[:, c]) for c in present]
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined and len(defined) == len(values) else None


def one_vs_rest(truth: NDArray[Any], classes: int) -> NDArray[np.bool_]:
    """Truth as booleans ``[n, C]``, from class indices ``[n]`` or from 0 and 1 ``[n, C]``."""
    if truth.ndim == 2:
        return truth.astype(bool)
    return np.asarray(truth[:, np.newaxis] == np.arange(classes))


@dataclass(frozen=True)
class _Counts:
    """One class against the rest."""

    tp: int
    fp: int
    fn: int
    tn: int

    @classmethod
    def of(cls, said: NDArray[np.bool_], known: NDArray[np.bool_]) -> _Counts:
        tp = int(np.count_nonzero(said & known))
        fp = int(np.count_nonzero(said)) - tp
        fn = int(np.count_nonzero(known)) - tp
        return cls(tp, fp, fn, len(known) - tp - fp - fn)

    @property
    def sensitivity(self) -> float | None:
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float | None:
        return _ratio(self.tn, self.tn + self.fp)

    @property
    def precision(self) -> float | None:
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def f1(self) -> float | None:
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def summarize(
    probabilities: NDArray[Any],
    truth: NDArray[Any],
    labels: Sequence[str],
    task: Task = "single-label",
    negative_label: str | None = None,
) -> dict[str, Any]:
    """The figures of ``evaluate --json`` that follow from probabilities and truth; None where undefined.

    A single-label prediction is the argmax; a multi-label one is each label at one half. Multi-label
    ``accuracy`` is the share of images with every label right, ``balanced_accuracy`` the mean over labels,
    and ``confusion`` has, for each label, ``[[tn, fp], [fn, tp]]``.

    Args:
        probabilities: calibrated, ``[n, C]``.
        truth: class indices ``[n]``, or for multi-label 0 and 1 ``[n, C]``.
        labels: names of the C classes.
        task: of the model; the labels of a segmentation are judged as multi-label.
        negative_label: the label that means nothing was found, where there is one.

    Returns:
        ``n, auroc, accuracy, balanced_accuracy, f1, ece, confusion, per_class``.
    """
    scores = np.asarray(probabilities, np.float64).reshape(-1, len(labels))
    truth = np.asarray(truth)
    several = task != "single-label"
    known = one_vs_rest(truth, len(labels))
    said = scores >= 0.5 if several else one_vs_rest(scores.argmax(axis=1), len(labels))
    counts = [_Counts.of(said[:, c], known[:, c]) for c in range(len(labels))]
    present = [c for c in counts if c.tp + c.fn]
    judged = [c for c in counts if c.tp + c.fn + c.fp]
    if several:
        sure = np.where(said, scores, 1 - scores)
        error = ece(sure.reshape(-1), (said == known).reshape(-1))
        right = float(np.mean((said == known).all(axis=1))) if len(truth) else None
        balanced = _mean([_mean([c.sensitivity, c.specificity]) for c in present])
        table: list[Any] = [[[c.tn, c.fp], [c.fn, c.tp]] for c in counts]
    else:
        error = ece(scores.max(axis=1), scores.argmax(axis=1) == truth)
        right = accuracy(scores, truth)
        balanced = _mean([c.sensitivity for c in present])
        table = confusion(scores.argmax(axis=1), truth.astype(np.int64), len(labels)).tolist()
    positive = None if several else positive_class(labels, negative_label)
    return {
        "n": len(truth),
        "auroc": mean_auroc(scores, truth, positive),
        "accuracy": right,
        "balanced_accuracy": balanced,
        "f1": _mean([c.f1 for c in judged]),
        "ece": error,
        "confusion": table,
        "per_class": {
            label: {
                "n": int(np.count_nonzero(known[:, c])),
                "auroc": auroc(scores[:, c], known[:, c]),
                "sensitivity": counts[c].sensitivity,
                "specificity": counts[c].specificity,
                "precision": counts[c].precision,
                "f1": counts[c].f1,
            }
            for c, label in enumerate(labels)
        },
    }


def variant_metrics(
    probabilities: NDArray[Any],
    truth: NDArray[Any],
    labels: Sequence[str],
    *,
    split: str,
    model_bytes: int,
    task: Task = "single-label",
    negative_label: str | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> VariantMetrics:
    """The held-out figures of one variant, with stratified bootstrap intervals (95 %, percentile method).

    Args:
        probabilities: calibrated, ``[n, C]``.
        truth: class indices ``[n]``, or for multi-label 0 and 1 ``[n, C]``.
        labels: names of the C classes.
        split: name of the held-out split.
        model_bytes: size of the variant's file.
        task: of the model.
        negative_label: the label that means nothing was found, where there is one.
        seed: of the resampling.
        resamples: their number.
    """
    scores, truth = np.asarray(probabilities, np.float64), np.asarray(truth)
    figures = summarize(scores, truth, labels, task, negative_label)
    resampled = [
        summarize(scores[draw], truth[draw], labels, task, negative_label)
        for draw in _stratified_draws(truth, seed, resamples)
    ]

    def interval(*keys: str) -> Interval | None:
        value = _at(figures, keys)
        if value is None:
            return None
        # Resampling within classes keeps every class, so what is defined stays defined, save at no resamples.
        low, high = np.quantile([_at(draw, keys) for draw in resampled] or [value], [0.025, 0.975])
        return Interval(value=value, low=float(low), high=float(high))

    return VariantMetrics(
        split=split,
        n=figures["n"],
        auroc=interval("auroc"),
        accuracy=interval("accuracy"),
        ece=figures["ece"],
        model_bytes=model_bytes,
        per_class={
            label: LabelMetrics(
                n=own["n"],
                auroc=interval("per_class", label, "auroc"),
                sensitivity=interval("per_class", label, "sensitivity"),
                specificity=interval("per_class", label, "specificity"),
                precision=own["precision"],
                f1=own["f1"],
            )
            for label, own in figures["per_class"].items()
        },
    )


def _stratified_draws(truth: NDArray[Any], seed: int, resamples: int) -> Iterator[Ints]:
    """Indices ``[n]`` of each resample, drawn with replacement within every class (or set of labels)."""
    _, stratum = np.unique(truth, axis=0, return_inverse=True)
    groups = [np.flatnonzero(stratum.reshape(-1) == s) for s in range(int(stratum.max(initial=-1)) + 1)]
    random = np.random.default_rng(seed)
    for _ in range(resamples if groups else 0):
        yield np.concatenate([group[random.integers(0, len(group), len(group))] for group in groups])


def _at(figures: dict[str, Any], keys: tuple[str, ...]) -> float | None:
    found: Any = figures
    for key in keys:
        found = found[key]
    return None if found is None else float(found)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
