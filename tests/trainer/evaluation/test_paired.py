"""Drops are those of the metrics, and their certainty means what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.evaluation import paired
from trainer.evaluation.metrics import summarize
from trainer.evaluation.paired import dice_drops, score_drops

LABELS = ("a", "b", "c")


def scores_of(n: int, strength: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, n)
    logits = random.normal(size=(n, 3)) + strength * np.eye(3)[truth]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), truth


@given(st.integers(0, 10**6), st.integers(3, 60), st.sampled_from([1, 3]))
@settings(max_examples=25, deadline=None)
def test_figures_are_those_of_the_report(seed: int, n: int, digits: int) -> None:
    before, truth = scores_of(n, 2.0, seed)
    after = scores_of(n, 1.0, seed + 1)[0].round(digits)  # with ties
    told = score_drops(before, after, truth, LABELS, seed=seed)
    for scores, which in ((before, "before"), (after, "after")):
        figures = summarize(scores, truth, LABELS)
        if told.overall is None:
            assert figures["auroc"] is None
        else:
            assert getattr(told.overall, which) == pytest.approx(figures["auroc"])
        for label in LABELS:
            for figure in ("auroc", "sensitivity"):
                found = getattr(told.per_class[label], figure)
                wanted = figures["per_class"][label][figure]
                assert (found is None) == (wanted is None)
                assert found is None or getattr(found, which) == pytest.approx(wanted)


def test_multi_label_truth_and_a_positive_class_are_taken_as_the_metrics_take_them() -> None:
    scores, truth = scores_of(50, 2.0)
    many = np.stack([truth == 0, truth >= 1, truth == 2], axis=1).astype(int)
    told = score_drops(scores, scores / 2, many, LABELS, "multi-label")
    assert told.overall is not None
    assert told.overall.before == pytest.approx(summarize(scores, many, LABELS, "multi-label")["auroc"])
    two = scores[:, :2] / scores[:, :2].sum(axis=1, keepdims=True)
    told = score_drops(two, two, truth % 2, ("a", "b"), negative_label="b")
    assert told.overall is not None
    assert told.overall.before == pytest.approx(
        summarize(two, truth % 2, ("a", "b"), "single-label", "b")["auroc"]
    )


def test_the_same_model_loses_nothing() -> None:
    scores, truth = scores_of(80, 1.5)
    told = score_drops(scores, scores, truth, LABELS).overall
    assert told is not None and (told.value, told.low, told.high, told.certainty) == (0, 0, 0, 0)


def test_one_flip_of_noise_is_not_certain_but_a_real_loss_is() -> None:
    scores, truth = scores_of(85, 3.0)
    flipped = scores.copy()
    right = np.flatnonzero((scores.argmax(axis=1) == truth) & (truth == 0))[0]
    flipped[right] = flipped[right][[1, 0, 2]]
    one = score_drops(scores, flipped, truth, LABELS)
    assert one.per_class["a"].sensitivity is not None
    assert one.per_class["a"].sensitivity.value > 0
    assert one.per_class["a"].sensitivity.certainty < 0.95
    noise = np.random.default_rng(1).dirichlet(np.ones(3), 85)
    worse = score_drops(scores, 0.4 * scores + 0.6 * noise, truth, LABELS).overall
    assert worse is not None and worse.certainty > 0.99 and worse.low > 0


def test_a_class_of_three_images_keeps_its_figures() -> None:
    scores, truth = scores_of(60, 2.0)
    truth = np.where(truth == 2, 0, truth)
    truth[:3] = 2
    told = score_drops(scores, scores, truth, LABELS)
    assert told.per_class["c"].n == 3 and told.per_class["c"].auroc is not None
    nobody = score_drops(scores, scores, np.where(truth == 2, 0, truth), LABELS)
    assert nobody.per_class["c"].auroc is None and nobody.overall is not None


def test_dice_is_the_mean_over_images_that_have_the_structure() -> None:
    before = np.array([[0.9, 0.8], [0.7, np.nan], [0.8, 0.6], [0.9, 0.7]])
    told = dice_drops(before, before - 0.1, ("lung", "heart"))
    assert told.metric == "dice" and told.per_class["heart"].n == 3
    heart = told.per_class["heart"].dice
    assert heart is not None and heart.before == pytest.approx(0.7) and heart.value == pytest.approx(0.1)
    assert told.overall is not None and told.overall.before == pytest.approx((0.825 + 0.7) / 2)
    assert told.overall.certainty == 1


def test_no_images_give_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "RESAMPLES", 200)
    told = score_drops(np.empty((0, 3)), np.empty((0, 3)), np.empty(0, int), LABELS)
    assert told.overall is None and told.n == 0
