"""Sensitivity and specificity in the field, of what reviewers have judged. Pure rules.

Only reviewed findings count, and reviewers look at positives first: where negatives are reviewed more seldom
than positives, the sensitivity looks better than it is. So each figure comes with how much nobody reviewed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edge.monitor.store.reviews import Judged

__all__ = ["Field", "Share", "fields", "wilson"]

_Z = 1.959963984540054  # 0.975 quantile of the normal distribution


@dataclass(frozen=True)
class Share:
    """``k`` of ``n``, with the interval that holds the true share in 95 % of all cases."""

    k: int
    n: int

    @property
    def value(self) -> float | None:
        """The share; None of nothing."""
        return self.k / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval; 0 to 1 of nothing."""
        return wilson(self.k, self.n)


@dataclass
class Field:
    """A model at a site: what reviewers make of it."""

    site: str
    bundle: str
    version: str
    true_positive: int = 0
    false_positive: int = 0
    true_negative: int = 0
    false_negative: int = 0
    wrong_label: int = 0
    """Positives in which something is there, but not what was said: they count as found."""
    no_result: int = 0
    unclear: int = 0
    unreviewed: dict[str, int] = field(default_factory=dict)
    """Findings without a verdict, by decision."""

    @property
    def sensitivity(self) -> Share:
        """Of what is there, how much was found."""
        return Share(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> Share:
        """Of where nothing is, how much was called so."""
        return Share(self.true_negative, self.true_negative + self.false_positive)

    @property
    def reviewed(self) -> dict[str, int]:
        """Findings with a clear verdict, by decision."""
        return {
            "positive": self.true_positive + self.false_positive,
            "negative": self.true_negative + self.false_negative,
            "no_result": self.no_result,
        }

    @property
    def one_sided(self) -> bool:
        """Whether a much smaller share of the negatives than of the positives was reviewed."""
        shares = []
        for decision in ("positive", "negative"):
            done = self.reviewed[decision]
            total = done + self.unreviewed.get(decision, 0)
            shares.append(done / total if total else 1.0)
        return shares[1] < shares[0] / 2


def wilson(k: int, n: int) -> tuple[float, float]:
    """The score interval of Wilson (1927) for ``k`` of ``n``, at 95 %."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = k / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def fields(judged: Iterable[Judged], unreviewed: Mapping[tuple[str, str, str, str], int]) -> list[Field]:
    """Every model at every site of which there are findings, by name."""
    found: dict[tuple[str, str, str], Field] = {}

    def of(site: str, bundle: str, version: str) -> Field:
        return found.setdefault((site, bundle, version), Field(site, bundle, version))

    for one in judged:
        _count(of(one.site, one.bundle, one.version), one)
    left: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    for (site, bundle, version, decision), n in unreviewed.items():
        of(site, bundle, version)
        left[site, bundle, version][decision] = n
    for key, counts in left.items():
        found[key].unreviewed = counts
    return [found[key] for key in sorted(found)]


def _count(model: Field, one: Judged) -> None:
    if one.labels is None:
        model.unclear += one.n
    elif one.decision == "no_result":
        model.no_result += one.n
    elif one.decision == "positive":
        if one.labels:
            model.true_positive += one.n
            model.wrong_label += one.n if one.said not in one.labels else 0
        else:
            model.false_positive += one.n
    elif one.labels:
        model.false_negative += one.n
    else:
        model.true_negative += one.n
