"""Results by subgroup, where the data says site, sex or age: a mean can hide whom a model fails."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Manifest, VariantMetrics
from trainer.data.sample import Sample
from trainer.evaluation.markup import row, section, table, with_interval
from trainer.evaluation.metrics import variant_metrics
from trainer.evaluation.variants import Variant
from trainer.preparation import Part

__all__ = ["by_group", "groups"]

AGES = ((0, 18), (18, 40), (40, 65), (65, 80), (80, 151))
"""Bands of years, the upper end not included."""

FEW = 20
RESAMPLES = 300


def groups(samples: list[Sample]) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    """What is said of the samples: kind ("site", "sex", "age"), group, and the indices of its samples.

    A kind that none of them has is left out; samples that lack one that others have are "not known".
    """
    said = {
        "site": [sample.site for sample in samples],
        "sex": [sample.sex for sample in samples],
        "age": [_band(sample.age_years) for sample in samples],
    }
    for kind, values in said.items():
        if not any(values):
            continue
        order = [name for name in map(_name, AGES) if name in values] if kind == "age" else []
        names = order or sorted({value for value in values if value})
        for name in (*names, *([None] if None in values else [])):
            yield kind, name or "not known", np.flatnonzero([value == name for value in values])


def by_group(variant: Variant, part: Part, manifest: Manifest) -> str:
    """The report's table of subgroups; empty where nothing is known of the images."""
    rows = []
    for kind, name, indices in groups(part.loaded.samples):
        figures: VariantMetrics = variant_metrics(
            variant.probabilities[indices],
            part.truth[indices],
            manifest.labels,
            split=part.name,
            model_bytes=len(variant.model),
            task=manifest.task,
            negative_label=manifest.decision.negative_label,
            resamples=RESAMPLES,
        )
        n = f"{len(indices)}{' (few)' if len(indices) < FEW else ''}"
        rows.append(
            row((f"{kind}: {name}", n, with_interval(figures.auroc), with_interval(figures.accuracy)))
        )
    if not rows:
        return ""
    return section(
        "By subgroup",
        table(("Group", "Images", "AUROC", "Accuracy"), rows)
        + f'<p class="soft">Held-out images, int8. Of groups of fewer than {FEW} images little is known. '
        "Where intervals of two groups do not overlap, ask why before using the model on the worse one.</p>",
    )


def _band(age: float | None) -> str | None:
    return None if age is None else next(_name(band) for band in AGES if band[0] <= age < band[1])


def _name(band: tuple[int, int]) -> str:
    low, high = band
    return f"under {high}" if low == 0 else f"{low} and over" if high > 150 else f"{low} to {high - 1}"
