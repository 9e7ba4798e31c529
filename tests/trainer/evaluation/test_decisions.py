"""Temperature and thresholds keep what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.evaluation.decisions import fit_temperature, fit_thresholds, negative_log_likelihood

LABELS = ("normal", "finding")


def logits_of(n: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose calibrated probabilities are right, made too sure by ``temperature``."""
    random = np.random.default_rng(seed)
    calibrated = random.normal(0, 2, (n, 2))
    shares = np.exp(calibrated) / np.exp(calibrated).sum(axis=1, keepdims=True)
    truth = (random.random(n) < shares[:, 1]).astype(int)
    return calibrated * temperature, np.eye(2)[truth]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_undoes_too_much_and_too_little_certainty(temperature: float) -> None:
    logits, targets = logits_of(4000, temperature)
    assert fit_temperature(logits, targets, "single-label") == pytest.approx(temperature, rel=0.1)


def test_no_other_temperature_is_likelier() -> None:
    logits, targets = logits_of(3000, 2.0)
    best = fit_temperature(logits, targets, "single-label")
    least = negative_log_likelihood(logits, targets, "single-label", best)
    for other in np.geomspace(0.25, 10, 40):
        assert least <= negative_log_likelihood(logits, targets, "single-label", other) + 1e-4


def test_a_few_images_without_an_error_give_no_certainty_without_end() -> None:
    targets = np.eye(2)[[0, 1] * 5]
    logits = (targets * 2 - 1) * 20
    sure = 1 / (1 + np.exp(-40 / fit_temperature(logits, targets, "single-label")))
    assert sure < 0.99


def test_multi_label_temperature_is_of_each_label() -> None:
    random = np.random.default_rng(1)
    calibrated = random.normal(0, 2, (3000, 3))
    targets = (random.random((3000, 3)) < 1 / (1 + np.exp(-calibrated))).astype(float)
    assert fit_temperature(calibrated * 2, targets, "multi-label") == pytest.approx(2, rel=0.1)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(6, 200),
    sensitivity=st.sampled_from([0.5, 0.8, 0.9, 0.95, 1.0]),
)
def test_threshold_reaches_the_sensitivity_and_passes_over_no_likeliest_label(
    seed: int, n: int, sensitivity: float
) -> None:
    random = np.random.default_rng(seed)
    positive = np.concatenate([[1.0, 0.0], random.integers(0, 2, n - 2)])
    probability = np.clip(random.normal(0.3 + 0.4 * positive, 0.25), 0.002, 0.998)
    scores = np.stack([1 - probability, probability], axis=1)
    targets = np.stack([1 - positive, positive], axis=1)
    found = fit_thresholds(scores, targets, LABELS, "normal", "single-label", sensitivity)
    assert set(found) == {"finding"}
    limit = found["finding"]
    assert (probability[positive == 1] >= limit.value).mean() >= sensitivity
    assert limit.min <= limit.value <= limit.max
    assert (
        probability[positive == 1] >= limit.max
    ).mean() >= sensitivity - 0.1 - 1e-9 or limit.max == limit.value
    assert limit.value <= 0.5


def test_every_label_has_a_threshold_where_none_is_negative() -> None:
    scores = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]])
    found = fit_thresholds(scores, np.eye(3), ("a", "b", "c"), None, "single-label", 0.95)
    assert {label: limit.value for label, limit in found.items()} == dict.fromkeys("abc", 1 / 3)
