"""Cross-validation: the whole training once for each of several parts of the images, judged on that part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.bundle.manifest import VariantMetrics
from trainer.data.dataset import Dataset
from trainer.data.split import TUNE_SHARE, divide
from trainer.pipeline import train
from trainer.preparation import Part, Prepared, joined
from trainer.progress import Reporter

__all__ = ["cross_validate", "divide_folds", "summarize_folds"]

FIGURES = ("auroc", "accuracy", "dice")


def cross_validate(
    prepared: Prepared, dataset: Dataset, count: int, seed: int, reporter: Reporter, kept: Path | None = None
) -> dict[str, Any]:
    """``folds.json``: the held-out results of every variant in each of ``count`` folds.

    The images that are held out of the training itself take no part. Patients stay in one fold. A fold that
    was finished before a kill is trained from its kept weights, without delay.

    Raises:
        BadInputError: a class has too few images or patients for so many folds.
        ScanwrightError: see :func:`trainer.pipeline.train`.
    """
    results = []
    for number, fold in enumerate(divide_folds(prepared, dataset, count, seed), 1):
        reporter.say(f"Fold {number} of {count}")
        result = train(fold, seed, reporter, kept and kept / f"fold-{number}")
        results.append({name: variant.metrics for name, variant in result.variants.items()})
    return summarize_folds(results)


def divide_folds(prepared: Prepared, dataset: Dataset, count: int, seed: int) -> list[Prepared]:
    """The same data once for each fold, with that fold held out and another 15 % of the rest for tuning."""
    pool = joined(prepared.train, prepared.tune)
    place = {id(sample): index for index, sample in enumerate(pool.loaded.samples)}

    def take(name: str, samples: list[Any]) -> Part:
        return replace(pool.take([place[id(sample)] for sample in samples]), name=name)

    folds = []
    parts = divide(dataset, pool.loaded.samples, [1 / count] * count, seed)
    for number, held_out in enumerate(parts):
        rest = [sample for other, part in enumerate(parts) if other != number for sample in part]
        train_samples, tune_samples = divide(dataset, rest, (1 - TUNE_SHARE, TUNE_SHARE), seed)
        folds.append(
            replace(
                prepared,
                train=take("train", train_samples),
                tune=take("tune", tune_samples),
                held_out=take(f"fold {number + 1}", held_out),
            )
        )
    return folds


def summarize_folds(results: list[dict[str, VariantMetrics]]) -> dict[str, Any]:
    """For each variant and figure: the values of the folds, their mean and standard deviation (n - 1).

    A fold in which a figure is undefined, as AUROC is where a class is missing, keeps its place with None;
    mean and standard deviation are of the others, ``judged`` says how many they are.
    """
    summary: dict[str, Any] = {"schema_version": 1, "folds": len(results), "variants": {}}
    for variant in dict.fromkeys(name for metrics in results for name in metrics):
        figures = summary["variants"][variant] = {}
        for figure in FIGURES:
            estimates = [getattr(metrics.get(variant), figure, None) for metrics in results]
            values = [None if estimate is None else estimate.value for estimate in estimates]
            judged = [value for value in values if value is not None]
            if judged:
                figures[figure] = {
                    "values": values,
                    "judged": len(judged),
                    "mean": float(np.mean(judged)),
                    "sd": float(np.std(judged, ddof=1)) if len(judged) > 1 else None,
                }
    return summary
