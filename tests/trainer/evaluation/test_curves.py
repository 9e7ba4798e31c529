"""Curves with bands, and subgroups."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from trainer.data.sample import Sample
from trainer.evaluation import curves
from trainer.evaluation.groups import groups


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    positive = random.random(300) < 0.3
    return np.round(random.normal(positive, 1.0), 1), positive


def test_precision_and_recall_are_those_of_scikit_learn(scored) -> None:
    scores, positive = scored
    curve = curves.precision_recall(scores, positive)
    precision, recall, _ = precision_recall_curve(positive, scores)
    np.testing.assert_allclose(curve.x, recall[::-1])
    np.testing.assert_allclose(curve.y[1:], precision[::-1][1:])
    expected = average_precision_score(positive, scores)
    assert curves.average_precision(scores, positive) == pytest.approx(expected)


@pytest.mark.parametrize("make", [curves.roc, curves.precision_recall])
def test_bands_hold_the_curve_and_narrow_with_more_images(scored, make) -> None:
    scores, positive = scored
    curve = make(scores, positive)
    middle = np.interp(curves.GRID[5:96], curve.x, curve.y)
    inside = (curve.low[5:96] - 0.02 <= middle) & (middle <= curve.high[5:96] + 0.02)
    assert inside.mean() > 0.95
    many = make(np.tile(scores, 16), np.tile(positive, 16))
    assert (many.high - many.low).mean() < 0.5 * (curve.high - curve.low).mean()


def test_groups_are_those_that_the_data_names() -> None:
    samples = [
        Sample("a", ("x",), site="north", sex="F", age_years=17.9),
        Sample("b", ("x",), site="south", sex="F", age_years=18),
        Sample("c", ("x",), site="north", age_years=90),
    ]
    found = [(kind, name, indices.tolist()) for kind, name, indices in groups(samples)]
    assert found == [
        ("site", "north", [0, 2]),
        ("site", "south", [1]),
        ("sex", "F", [0, 1]),
        ("sex", "not known", [2]),
        ("age", "under 18", [0]),
        ("age", "18 to 39", [1]),
        ("age", "80 and over", [2]),
    ]
    assert list(groups([Sample("a", ("x",))])) == []
