"""Overlap of masks against counts by hand, and intervals that know that frames of a clip are alike."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.data.masks import LEAST_SHARE, presence
from trainer.evaluation.masks import confusions, image_dice, overlap_intervals
from trainer.evaluation.masks_report import examples

LABELS = ("background", "a", "b")


def pair(seed: int, flips: int = 20) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, (20, 20)).astype(np.uint8)
    said = truth.copy()
    said.ravel()[random.integers(0, 400, flips)] = random.integers(0, 3, flips)
    return said, truth


def test_dice_and_iou_are_those_of_the_counted_pixels() -> None:
    said, truth = map(np.stack, zip(*(pair(seed) for seed in range(6)), strict=True))
    counts = confusions(said, truth, 3)
    dice, iou = overlap_intervals(counts, range(6), LABELS, seed=0)
    for index, label in enumerate(LABELS):
        both = ((said == index) & (truth == index)).sum()
        expected = 2 * both / ((said == index).sum() + (truth == index).sum())
        found = dice.per_class[label]
        assert found is not None and found.value == pytest.approx(expected)
        assert found.low <= found.value <= found.high
        other = iou.per_class[label]
        assert other is not None and other.value == pytest.approx(expected / (2 - expected))
    assert dice.mean is not None
    means = [one.value for label in LABELS[1:] if (one := dice.per_class[label])]
    assert dice.mean.value == pytest.approx(np.mean(means))


def test_a_class_that_neither_side_has_is_left_out() -> None:
    truth = np.zeros((4, 8, 8), np.uint8)
    truth[:2, 2:5, 2:5] = 1
    counts = confusions(truth, truth, 3)
    dice, _ = overlap_intervals(counts, range(4), LABELS, seed=0)
    assert dice.per_class["b"] is None
    assert dice.mean is not None and dice.mean.value == 1
    assert np.array_equal(np.isnan(image_dice(counts)), [[0, 1], [0, 1], [1, 1], [1, 1]])
    nothing, _ = overlap_intervals(confusions(truth[2:], truth[2:], 3), range(2), LABELS, seed=0)
    assert nothing.mean is None


def test_frames_of_one_clip_do_not_narrow_the_interval() -> None:
    """Ten clips of ten equal frames say as little as ten images."""
    ten = [pair(seed, flips=10 * seed) for seed in range(10)]
    said, truth = (np.stack(side) for side in zip(*ten, strict=True))
    counts = confusions(said, truth, 3)
    many = np.repeat(counts, 10, axis=0)
    alone, _ = overlap_intervals(counts, range(10), LABELS, seed=1)
    clips, _ = overlap_intervals(many, [n // 10 for n in range(100)], LABELS, seed=1)
    frames, _ = overlap_intervals(many, range(100), LABELS, seed=1)
    assert alone.mean and clips.mean and frames.mean
    assert (clips.mean.low, clips.mean.high) == pytest.approx((alone.mean.low, alone.mean.high))
    assert frames.mean.high - frames.mean.low < 0.5 * (clips.mean.high - clips.mean.low)


def test_a_sliver_is_not_shown_and_the_background_is_what_is_left() -> None:
    masks = np.zeros((3, 100, 100), np.uint8)
    masks[0].ravel()[: int(LEAST_SHARE * 10_000)] = 1
    masks[1].ravel()[: int(LEAST_SHARE * 10_000) - 1] = 1
    masks[2, :50] = 2
    assert presence(masks, 3).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_the_report_shows_the_worst_and_the_best_once_each() -> None:
    dice = np.array([[0.9, np.nan], [0.2, 0.4], [np.nan, np.nan], [1.0, 1.0], [0.5, 0.5]])
    worst, best = examples(dice)
    assert worst == [1, 4, 0, 3] and best == []
    many = np.linspace(0, 1, 40)[:, np.newaxis]
    worst, best = examples(many)
    assert worst[0] == 0 and best[0] == 39 and not set(worst) & set(best)
