"""Drift: how far what a model sees and says has moved from its commissioning baseline. Pure rules.

The population stability index of two histograms, sum over bins of (p - q) ln(p / q), is under no change
distributed about as chi-squared with B - 1 degrees of freedom times (1/n + 1/m) (Yurdakul, "Statistical
properties of the population stability index", 2018). So the customary 0.2 is an alarm only where it could
hardly be chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from edge.mqtt.payloads import Finding

__all__ = ["BINS", "LEAST", "alarm", "limit", "measures", "psi"]

BINS = 10
LEAST = 200
"""Findings that a baseline and what is held against it must have."""

_CUSTOMARY = 0.2
_CHI2_999 = 27.88  # 0.999 quantile of chi-squared with BINS - 1 degrees of freedom
_LABELS = 8  # labels whose probabilities are counted, in order of their names
_DECISIONS = ("positive", "negative", "no_result")
# Ranges of edge.imaging.quality.measure's figures; sharpness and side span orders of magnitude.
_LINEAR = {"brightness": (0.0, 256.0), "contrast": (0.0, 128.0), "colour": (0.0, 128.0)}
_LOGARITHMIC = {"sharpness": (0.01, 64.0), "side": (32.0, 8192.0)}


def measures(finding: Finding) -> Iterator[tuple[str, int]]:
    """What is counted of a finding: each measure's name and the bin, 0..9, that it falls into."""
    yield "decision", _DECISIONS.index(finding.decision)
    for label in sorted(finding.probabilities)[:_LABELS]:
        yield f"probability {label}", _bin(finding.probabilities[label], 0.0, 1.0)
    for name, (low, high) in _LINEAR.items():
        if name in finding.evidence.quality:
            yield f"quality {name}", _bin(finding.evidence.quality[name], low, high)
    for name, (low, high) in _LOGARITHMIC.items():
        if name in finding.evidence.quality:
            value = math.log(max(finding.evidence.quality[name], low))
            yield f"quality {name}", _bin(value, math.log(low), math.log(high))
    score, most = finding.evidence.ood_score, finding.evidence.ood_limit
    if score is not None and most:
        yield "novelty", _bin(score / most, 0.0, 2.0)


def _bin(value: float, low: float, high: float) -> int:
    return min(BINS - 1, max(0, math.floor((value - low) / (high - low) * BINS)))


def psi(expected: Sequence[int], seen: Sequence[int]) -> float:
    """The population stability index of two histograms of counts, each of at least one; half a count is added
    to every bin, so that an empty one gives no infinity."""
    n = sum(expected) + 0.5 * len(expected)
    m = sum(seen) + 0.5 * len(seen)
    shares = [((a + 0.5) / n, (b + 0.5) / m) for a, b in zip(expected, seen, strict=True)]
    return sum((q - p) * math.log(q / p) for p, q in shares)


def limit(expected: Sequence[int], seen: Sequence[int]) -> float:
    """The index above which it is an alarm: 0.2, or more where so few findings give more by chance."""
    return max(_CUSTOMARY, _CHI2_999 * (1 / max(1, sum(expected)) + 1 / max(1, sum(seen))))


def alarm(expected: Sequence[int], seen: Sequence[int]) -> bool:
    """Whether what is seen has moved; never on fewer than 200 findings."""
    enough = min(sum(expected), sum(seen)) >= LEAST
    return enough and psi(expected, seen) > limit(expected, seen)
