from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.monitor.accuracy import fields, wilson
from edge.monitor.store.reviews import Judged

CHEST = ("clinic", "chest", "1.0.0")


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775), (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)],
)
def test_the_interval_is_wilsons(k, n, low, high):
    """The last two are of Newcombe, Statistics in Medicine 17 (1998), table I."""
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_interval_holds_the_share(k, more):
    n = k + more
    low, high = wilson(k, n)
    assert 0 <= low <= high <= 1
    if n:
        assert low <= k / n + 1e-12 and high >= k / n - 1e-12


def judged(decision, said, labels, n):
    return Judged(*CHEST, decision, said, labels, n)


def test_verdicts_are_counted_as_what_they_are():
    (field,) = fields(
        [
            judged("positive", "pneumonia", ("pneumonia",), 8),
            judged("positive", "pneumonia", ("effusion",), 1),
            judged("positive", "pneumonia", (), 3),
            judged("negative", None, (), 40),
            judged("negative", None, ("pneumonia",), 1),
            judged("no_result", None, ("pneumonia",), 5),
            judged("positive", "pneumonia", None, 2),
        ],
        {(*CHEST, "negative"): 9},
    )
    assert (field.sensitivity.k, field.sensitivity.n) == (9, 10)
    assert (field.specificity.k, field.specificity.n) == (40, 43)
    assert (field.wrong_label, field.no_result, field.unclear) == (1, 5, 2)
    assert field.unreviewed == {"negative": 9}
    assert not field.one_sided


def test_a_sensitivity_that_rests_on_positives_alone_says_so():
    (field,) = fields([judged("positive", "pneumonia", ("pneumonia",), 10)], {(*CHEST, "negative"): 500})
    assert field.sensitivity.value == 1.0 and field.one_sided


def test_models_without_a_verdict_are_there_too():
    (field,) = fields([], {(*CHEST, "positive"): 4})
    assert field.sensitivity.value is None and field.sensitivity.interval == (0.0, 1.0)
