"""How much worse one model is than another on the same images, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Task
from edge.schema import Contract
from trainer.evaluation.metrics import one_vs_rest, positive_class

__all__ = ["Drop", "Drops", "LabelDrops", "dice_drops", "score_drops"]

Floats = NDArray[np.float64]
Figures = dict[tuple[str, ...], Floats]
Measure = Callable[[Floats], Figures]

RESAMPLES = 2000
AT_ONCE = 200
OVERALL = ("overall",)


class Drop(Contract):
    """What a figure lost from ``before`` to ``after`` (a gain is negative), with its 95 % interval.

    ``certainty`` is the share of resamples of the same images in which it lost anything at all.
    """

    before: float
    after: float
    low: float
    high: float
    certainty: float

    @property
    def value(self) -> float:
        """``before - after``."""
        return self.before - self.after


class LabelDrops(Contract):
    """The drops of one label against the rest, on ``n`` images that have it; None where undefined."""

    n: int
    auroc: Drop | None = None
    sensitivity: Drop | None = None
    dice: Drop | None = None


class Drops(Contract):
    """What a variant lost against the float model on ``n`` held-out images, overall by ``metric``."""

    metric: Literal["auroc", "dice"]
    n: int
    overall: Drop | None = None
    per_class: dict[str, LabelDrops] = {}


def score_drops(
    before: NDArray[Any],
    after: NDArray[Any],
    truth: NDArray[Any],
    labels: Sequence[str],
    task: Task = "single-label",
    negative_label: str | None = None,
    seed: int = 0,
) -> Drops:
    """The drops in AUROC and sensitivity, by a paired bootstrap that is stratified by class.

    Both models are judged on the same resamples (Efron and Tibshirani 1993, chapter 8), so what is hard for
    both cancels out.

    Args:
        before: probabilities of the float model, ``[n, C]``.
        after: those of the variant.
        truth: class indices ``[n]``, or for multi-label 0 and 1 ``[n, C]``.
        labels: names of the C classes.
        task: of the model. Sensitivity is at the argmax, in multi-label data at one half.
        negative_label: as :func:`trainer.evaluation.metrics.summarize` takes it.
        seed: of the resampling.
    """
    known = one_vs_rest(np.asarray(truth), len(labels))
    several = task == "multi-label"
    positive = None if several else positive_class(labels, negative_label)
    _, stratum = np.unique(truth, axis=0, return_inverse=True)

    def measure(scores: Floats) -> Measure:
        said = scores >= 0.5 if several else one_vs_rest(scores.argmax(axis=1), len(labels))
        areas = [_Area(scores[:, c], known[:, c]) for c in range(len(labels))]

        def figures(weights: Floats) -> Figures:
            found: Figures = {}
            for c, label in enumerate(labels):
                found[label, "auroc"] = areas[c](weights)
                found[label, "sensitivity"] = _share(weights, said[:, c], known[:, c])
            # A class that no image has counts for nothing, as in the mean AUROC that the reports give.
            present = [label for c, label in enumerate(labels) if known[:, c].any()]
            chosen = present if positive is None else [labels[positive]]
            if chosen:
                found[OVERALL] = np.mean([found[label, "auroc"] for label in chosen], axis=0)
            return found

        return figures

    drops = _paired(measure(np.asarray(before)), measure(np.asarray(after)), stratum.reshape(-1), seed)
    return Drops(
        metric="auroc",
        n=len(known),
        overall=drops.get(OVERALL),
        per_class={
            label: LabelDrops(
                n=int(known[:, c].sum()),
                auroc=drops.get((label, "auroc")),
                sensitivity=drops.get((label, "sensitivity")),
            )
            for c, label in enumerate(labels)
        },
    )


def dice_drops(before: NDArray[Any], after: NDArray[Any], labels: Sequence[str], seed: int = 0) -> Drops:
    """The drops in Dice, by a paired bootstrap over images.

    Args:
        before: Dice of each image and structure with the float model, ``[n, K]``; NaN where an image has
            none of it and none was drawn. Where only the other model draws some, that counts as 1.
        after: the same with the variant.
        labels: names of the K structures.
        seed: of the resampling.
    """
    there = ~np.isnan(before) | ~np.isnan(after)
    before, after = np.nan_to_num(before, nan=1.0), np.nan_to_num(after, nan=1.0)

    def measure(dice: NDArray[Any]) -> Measure:
        def figures(weights: Floats) -> Figures:
            found: Figures = {
                (label, "dice"): _mean(weights, dice[:, c], there[:, c]) for c, label in enumerate(labels)
            }
            present = [found[label, "dice"] for c, label in enumerate(labels) if there[:, c].any()]
            if present:
                found[OVERALL] = np.nanmean(present, axis=0)
            return found

        return figures

    drops = _paired(measure(before), measure(after), np.zeros(len(before), np.int64), seed)
    return Drops(
        metric="dice",
        n=len(before),
        overall=drops.get(OVERALL),
        per_class={
            label: LabelDrops(n=int(there[:, c].sum()), dice=drops.get((label, "dice")))
            for c, label in enumerate(labels)
        },
    )


class _Area:
    """The area under the ROC curve of weighted images; see :func:`trainer.evaluation.metrics.auroc`."""

    def __init__(self, scores: Floats, positive: NDArray[np.bool_]) -> None:
        self.order = np.argsort(scores, kind="stable")
        ranked = scores[self.order]
        self.positive = positive[self.order]
        # First and last place of each image's ties.
        self.first = np.searchsorted(ranked, ranked, "left")
        self.last = np.searchsorted(ranked, ranked, "right")

    def __call__(self, weights: Floats) -> Floats:
        """``weights`` ``[r, n]`` to areas ``[r]``; NaN where a class is absent."""
        ordered = weights[:, self.order]
        positive, negative = ordered * self.positive, ordered * ~self.positive
        below = np.concatenate([np.zeros((len(weights), 1)), negative.cumsum(axis=1)], axis=1)
        beaten = (below[:, self.first] + below[:, self.last]) / 2
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        return _divided((positive * beaten).sum(axis=1), pairs)


def _share(weights: Floats, said: NDArray[np.bool_], known: NDArray[np.bool_]) -> Floats:
    return _divided(weights @ (said & known), weights @ known)


def _mean(weights: Floats, values: Floats, there: NDArray[np.bool_]) -> Floats:
    return _divided(weights @ np.where(there, values, 0.0), weights @ there)


def _divided(part: Floats, whole: Floats) -> Floats:
    result: Floats = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return result


def _paired(
    before: Measure, after: Measure, stratum: NDArray[np.int64], seed: int
) -> dict[tuple[str, ...], Drop]:
    """The drop of every figure that is defined on all images, from the same resamples for both models."""
    everything = np.ones((1, len(stratum)))
    first, last = before(everything), after(everything)
    differences: dict[tuple[str, ...], list[Floats]] = {key: [] for key in first}
    for weights in _resamples(stratum, seed):
        one, other = before(weights), after(weights)
        for key in differences:
            differences[key].append(one[key] - other[key])
    drops = {}
    for key, parts in differences.items():
        values = np.concatenate(parts) if parts else np.empty(0)
        values = values[~np.isnan(values)]
        if np.isnan(first[key][0] - last[key][0]) or not len(values):
            continue
        low, high = np.quantile(values, [0.025, 0.975])
        drops[key] = Drop(
            before=float(first[key][0]),
            after=float(last[key][0]),
            low=float(low),
            high=float(high),
            # Sums of the same numbers in another order differ in their last bits.
            certainty=float(np.mean(values > 1e-9)),
        )
    return drops


def _resamples(stratum: NDArray[np.int64], seed: int) -> Iterator[Floats]:
    """How often each image is drawn, ``[r, n]``, with replacement within every stratum."""
    random = np.random.default_rng(seed)
    groups = [np.flatnonzero(stratum == s) for s in np.unique(stratum)]
    for _ in range(RESAMPLES // AT_ONCE if groups else 0):
        weights = np.zeros((AT_ONCE, len(stratum)))
        for group in groups:
            even = np.full(len(group), 1 / len(group))
            weights[:, group] = random.multinomial(len(group), even, AT_ONCE)
        yield weights
