from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.evaluation import metrics


def probabilities_and_truth(n: int, classes: int, seed: int, steps: int = 8):
    """Coarse probabilities, so that ties are many."""
    random = np.random.default_rng(seed)
    raw = random.integers(1, steps, (n, classes)).astype(float)
    truth = np.concatenate([np.arange(classes), random.integers(0, classes, n - classes)])
    return raw / raw.sum(axis=1, keepdims=True), truth


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=40))
def test_auroc_agrees_with_the_reference_where_scores_tie(pairs) -> None:
    scores = np.array([score for score, _ in pairs], float)
    positive = np.array([truth for _, truth in pairs])
    found = metrics.auroc(scores, positive)
    if positive.all() or not positive.any():
        assert found is None
    else:
        assert found == pytest.approx(reference.roc_auc_score(positive, scores), abs=1e-12)


def test_roc_curve_encloses_the_area_that_auroc_gives() -> None:
    scores, truth = probabilities_and_truth(80, 2, 3)
    false, true, thresholds = metrics.roc_curve(scores[:, 1], truth == 1)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert thresholds[0] == np.inf and (np.diff(thresholds) < 0).all()
    area = np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2)
    assert area == pytest.approx(metrics.auroc(scores[:, 1], truth == 1))


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_summary_agrees_with_the_reference(classes: int) -> None:
    scores, truth = probabilities_and_truth(120, classes, classes)
    labels = [f"label {c}" for c in range(classes)]
    found = metrics.summarize(scores, truth, labels)
    predicted = scores.argmax(axis=1)
    assert found["n"] == 120
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, predicted))
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(truth, predicted))
    assert found["f1"] == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
    assert found["confusion"] == reference.confusion_matrix(truth, predicted).tolist()
    expected = (
        reference.roc_auc_score(truth, scores[:, 1])
        if classes == 2
        else reference.roc_auc_score(truth, scores, multi_class="ovr", average="macro")
    )
    assert found["auroc"] == pytest.approx(expected)
    precision, recall, f1, support = reference.precision_recall_fscore_support(truth, predicted)
    for c, label in enumerate(labels):
        own = found["per_class"][label]
        assert own["n"] == support[c]
        assert own["precision"] == pytest.approx(precision[c])
        assert own["sensitivity"] == pytest.approx(recall[c])
        assert own["f1"] == pytest.approx(f1[c])
        assert own["specificity"] == pytest.approx(
            reference.recall_score(truth != c, predicted != c), abs=1e-12
        )


def test_binary_auroc_is_of_the_class_that_is_not_negative() -> None:
    scores, truth = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 0])
    assert metrics.positive_class(["sick", "well"], "well") == 0
    assert metrics.positive_class(["well", "sick"], None) == 1
    assert metrics.positive_class(["a", "b", "c"], "a") is None
    assert metrics.summarize(scores, truth, ["sick", "well"], negative_label="well")["auroc"] == 1


def test_multi_label_figures_agree_with_the_reference() -> None:
    random = np.random.default_rng(5)
    scores, truth = random.random((60, 3)), random.integers(0, 2, (60, 3))
    found = metrics.summarize(scores, truth, ["a", "b", "c"], "multi-label")
    said = scores >= 0.5
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, said))
    assert found["f1"] == pytest.approx(reference.f1_score(truth, said, average="macro"))
    assert found["auroc"] == pytest.approx(reference.roc_auc_score(truth, scores, average="macro"))
    assert found["confusion"] == reference.multilabel_confusion_matrix(truth, said).tolist()


def test_what_is_undefined_is_none() -> None:
    one_class = metrics.summarize(np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([0, 0]), ["a", "b"])
    assert one_class["auroc"] is None
    assert one_class["per_class"]["b"]["sensitivity"] is None
    assert one_class["accuracy"] == 0.5
    empty = metrics.summarize(np.zeros((0, 2)), np.zeros(0, int), ["a", "b"])
    assert empty["n"] == 0
    assert empty["accuracy"] is None and empty["ece"] is None and empty["f1"] is None


def test_absent_classes_do_not_enter_the_means() -> None:
    scores = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.2, 0.7, 0.1]])
    found = metrics.summarize(scores, np.array([0, 1, 0, 1]), ["a", "b", "absent"])
    assert (found["auroc"], found["f1"], found["balanced_accuracy"]) == (1, 1, 1)


def test_ece_is_the_weighted_gap_between_confidence_and_accuracy() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False, True, False])
    assert metrics.ece(confidence, correct) == pytest.approx(4 / 6 * 0.2 + 2 / 6 * 0.05)
    assert metrics.ece(np.ones(3), np.ones(3, bool)) == 0


def test_intervals_hold_the_estimate_and_repeat_with_the_seed() -> None:
    scores, truth = probabilities_and_truth(150, 3, 9)
    first, second = (
        metrics.variant_metrics(scores, truth, "abc", split="test", model_bytes=10, seed=4, resamples=200)
        for _ in range(2)
    )
    assert first == second
    assert first.auroc and first.auroc.low < first.auroc.value < first.auroc.high
    assert first.accuracy and first.accuracy.high - first.accuracy.low > 0.05
    assert first.per_class["a"].sensitivity and first.per_class["a"].n == int(np.sum(truth == 0))
