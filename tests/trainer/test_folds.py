"""Cross-validation judges every image once, and by networks that saw nothing of its patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("tensorflow")

from edge.bundle.manifest import Interval, VariantMetrics
from edge.errors import BadInputError
from trainer.data.dataset import Dataset
from trainer.data.sample import Sample
from trainer.folds import divide_folds, summarize_folds
from trainer.preparation import Prepared, prepare
from trainer.progress import Reporter
from trainer.recipe import load_recipe


def prepared(patients: int) -> tuple[Prepared, Dataset]:
    random = np.random.default_rng(0)
    samples = [
        Sample(
            f"{label}-{patient}-{shot}",
            (label,),
            patient=f"{label}{patient}",
            array=random.integers(0, 256, (20, 20), dtype=np.uint8),
        )
        for label in ("normal", "mass")
        for patient in range(patients)
        for shot in range(2)
    ]
    dataset = Dataset(samples, ("normal", "mass"), "single-label", Path("data"))
    return prepare(load_recipe("classifier"), dataset, 0, Reporter(Console(quiet=True))), dataset


def test_every_image_is_held_out_once_and_no_patient_is_on_both_sides() -> None:
    data, dataset = prepared(20)
    folds = divide_folds(data, dataset, 4, seed=0)
    held_out = [sample.name for fold in folds for sample in fold.held_out.loaded.samples]
    assert sorted(held_out) == sorted(
        sample.name for part in (data.train, data.tune) for sample in part.loaded.samples
    )
    for fold in folds:
        people = [{sample.patient for sample in part.loaded.samples} for part in fold.parts]
        assert not people[0] & people[1] and not people[2] & (people[0] | people[1])
        for part in fold.parts:
            assert set(part.truth) == {0, 1} and len(part.pixels) == len(part.loaded.hashes)


def test_too_few_patients_for_the_folds_are_named() -> None:
    data, dataset = prepared(6)
    with pytest.raises(BadInputError, match=r"too few (to be in each of|for) 15 parts"):
        divide_folds(data, dataset, 15, seed=0)


def test_the_summary_has_mean_and_spread() -> None:
    def metrics(auroc: float) -> VariantMetrics:
        interval = Interval(value=auroc, low=0, high=1)
        return VariantMetrics(split="fold", n=9, auroc=interval, model_bytes=1)

    summary = summarize_folds([{"int8": metrics(0.8)}, {"int8": metrics(0.9)}])
    found = summary["variants"]["int8"]
    assert found["auroc"]["mean"] == pytest.approx(0.85) and found["auroc"]["sd"] == pytest.approx(
        0.0707, abs=1e-3
    )
    assert "accuracy" not in found


def test_a_fold_that_a_figure_is_undefined_in_keeps_its_place() -> None:
    def metrics(auroc: float | None) -> VariantMetrics:
        interval = None if auroc is None else Interval(value=auroc, low=0, high=1)
        return VariantMetrics(split="fold", n=9, auroc=interval, model_bytes=1)

    folds = [{"int8": metrics(None)}, {"int8": metrics(0.8), "pruned": metrics(0.7)}, {"int8": metrics(0.9)}]
    found = summarize_folds(folds)["variants"]
    assert found["int8"]["auroc"]["values"] == [None, 0.8, 0.9] and found["int8"]["auroc"]["judged"] == 2
    assert found["int8"]["auroc"]["mean"] == pytest.approx(0.85)
    assert found["pruned"]["auroc"] == {"values": [None, 0.7, None], "judged": 1, "mean": 0.7, "sd": None}
