"""The published vectors of decisions, quality gates, regions and ids are what the code computes."""

from __future__ import annotations

import json

import pytest
from decision_vectors import VECTORS, text

PUBLISHED, COMPUTED = json.loads(VECTORS.read_text(encoding="utf-8")), json.loads(text())


@pytest.mark.parametrize("part", ["quality", "decisions", "layouts", "regions", "ids", "coverage"])
def test_the_published_vectors_are_computed(part: str) -> None:
    assert len(PUBLISHED[part]) == len(COMPUTED[part])
    for published, computed in zip(PUBLISHED[part], COMPUTED[part], strict=True):
        assert_close(published, computed)


def test_each_reason_of_the_gates_and_each_decision_has_a_vector() -> None:
    outcomes = [vector["outcome"] for vector in PUBLISHED["decisions"]]
    assert {outcome["decision"] for outcome in outcomes} == {"positive", "negative", "no_result"}
    said = {reason for outcome in outcomes for reason in outcome["reasons"]}
    assert said == {
        "too_small",
        "blank",
        "too_dark",
        "too_bright",
        "low_contrast",
        "blurred",
        "noisy",
        "unexpected_colour",
        "out_of_distribution",
        "uncertain",
    }


def assert_close(published: object, computed: object) -> None:
    """The same, but for the last digits of floating point, which libraries round differently."""
    if isinstance(published, dict):
        assert isinstance(computed, dict) and list(published) == list(computed)
        for key, value in published.items():
            assert_close(value, computed[key])
    elif isinstance(published, list):
        assert isinstance(computed, list) and len(published) == len(computed)
        for one, other in zip(published, computed, strict=True):
            assert_close(one, other)
    elif isinstance(published, float):
        assert computed == pytest.approx(published, rel=1e-6, abs=1e-9)
    else:
        assert published == computed
