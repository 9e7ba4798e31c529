"""How well masks agree: Dice and intersection over union, in the geometry of the model's output."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Interval, Manifest
from edge.errors import BadInputError
from edge.imaging.frame import Pixels
from trainer.data.masks import move_mask, resized

__all__ = ["MaskCounts", "Overlap", "confusions", "image_dice", "overlap_intervals"]

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Overlap:
    """Agreement with intervals: ``mean`` over the classes but the background, and ``per_class``, by label.

    None where neither truth nor prediction has the class.
    """

    mean: Interval | None
    per_class: dict[str, Interval | None]


def confusions(predicted: Pixels, truth: Pixels, classes: int) -> Counts:
    """Pixels of each image by true and predicted class, ``[n, K, K]``, of class indices ``[n, H, W]``."""
    pairs = truth.astype(np.int64) * classes + predicted
    return np.stack([np.bincount(p.ravel(), minlength=classes**2) for p in pairs]).reshape(
        -1, classes, classes
    )


def _overlaps(counts: Counts) -> tuple[Floats, Floats]:
    """Dice and IoU ``[..., K]`` of confusions ``[..., K, K]``; NaN where neither side has the class."""
    both = np.diagonal(counts, axis1=-2, axis2=-1).astype(float)
    sizes = (counts.sum(axis=-1) + counts.sum(axis=-2)).astype(float)
    with np.errstate(invalid="ignore"):
        return 2 * both / sizes, both / (sizes - both)


def _foreground_mean(values: Floats) -> Floats:
    """Mean over the classes but the first, of those that are there; NaN where none is."""
    kept = values[..., 1:]
    there = ~np.isnan(kept)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, kept, 0).sum(axis=-1) / there.sum(axis=-1))


def image_dice(counts: Counts) -> Floats:
    """Dice of each image and class but the background, ``[n, K - 1]``; NaN where neither side has it."""
    return _overlaps(counts)[0][:, 1:]


def overlap_intervals(
    counts: Counts, groups: Sequence[Hashable], labels: Sequence[str], seed: int, resamples: int = 1000
) -> tuple[Overlap, Overlap]:
    """Dice and IoU of all images' pixels together, with bootstrap intervals (95 %, percentile method).

    Resampled are whole groups, as the images of a patient, or the frames of a clip, are much alike and
    single ones would make the interval too narrow (cluster bootstrap, Field and Welsh 2007).

    Args:
        counts: :func:`confusions`, ``[n, K, K]``.
        groups: of each image.
        labels: names of the classes.
        seed: of the resampling.
        resamples: their number.
    """
    place = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    by_group = np.zeros((len(place), *counts.shape[1:]), np.int64)
    np.add.at(by_group, [place[group] for group in groups], counts)
    random = np.random.default_rng(seed)
    draws = [random.integers(0, len(by_group), len(by_group)) for _ in range(resamples)]
    drawn = np.stack([by_group[draw].sum(axis=0) for draw in draws])
    found = []
    for value, sample in zip(_overlaps(counts.sum(axis=0)), _overlaps(drawn), strict=True):
        per_class = {label: _interval(value[c], sample[:, c]) for c, label in enumerate(labels)}
        found.append(Overlap(_interval(_foreground_mean(value), _foreground_mean(sample)), per_class))
    return found[0], found[1]


def _interval(value: Any, sample: Floats) -> Interval | None:
    defined = sample[~np.isnan(sample)]
    if np.isnan(value) or not len(defined):
        return None
    low, high = np.quantile(defined, [0.025, 0.975])
    return Interval(value=float(value), low=float(low), high=float(high))


class MaskCounts:
    """Counts pixels of true and predicted masks over any number of images."""

    def __init__(self, manifest: Manifest) -> None:
        self._labels = manifest.labels
        self._steps = manifest.steps
        self._counts = np.zeros((len(self._labels), len(self._labels)), np.int64)

    def add(self, scores: NDArray[np.float32], mask: Pixels) -> None:
        """Count one image.

        Args:
            scores: the model's mask output ``[H, W, K]``; the predicted class is the largest.
            mask: true class indices, uint8 ``[h, w]``; moved as the steps move the image.

        Raises:
            BadInputError: the mask holds an index that is no class.
        """
        height, width, classes = scores.shape
        known = resized(move_mask(mask, self._steps), height, width)
        if known.max() >= classes:
            raise BadInputError(f"a mask holds class {known.max()}; the model has {classes}")
        self._counts += confusions(scores.argmax(axis=-1)[np.newaxis], known[np.newaxis], classes)[0]

    def summary(self) -> dict[str, Any]:
        """``dice`` and ``iou``: the means over the classes but the first, the background, that are there.

        ``per_class`` has both for each label; None where neither truth nor prediction has the class.
        """
        dice, iou = _overlaps(self._counts)
        return {
            "dice": _number(_foreground_mean(dice)),
            "iou": _number(_foreground_mean(iou)),
            "confusion": self._counts.tolist(),
            "per_class": {
                label: {"dice": _number(dice[c]), "iou": _number(iou[c])}
                for c, label in enumerate(self._labels)
            },
        }


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
