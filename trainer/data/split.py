"""Divides a dataset into what trains the network, what tunes it and what it is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInputError
from trainer.data.dataset import Dataset
from trainer.data.sample import Sample

__all__ = ["Partition", "divide", "partition"]

TUNE_SHARE = 0.15
HELD_OUT_SHARE = 0.15


@dataclass(frozen=True)
class Partition:
    """``train`` fits weights; ``tune`` stops early and fits temperature, thresholds and limits; ``held_out``
    only judges. ``held_out_name`` is the split of DATA that it is, or "held-out" where DATA had none."""

    train: list[Sample]
    tune: list[Sample]
    held_out: list[Sample]
    held_out_name: str


def partition(dataset: Dataset, seed: int) -> Partition:
    """The partition that DATA's own splits allow.

    With train, val and test they are train, tune and held out. With only one of val and test, that one is
    held out, and 15 % of train tune. Without any split, 70 % train, 15 % tune, 15 % are held out. Parts made
    here keep every patient (see :func:`trainer.data.patients.patient_of`) in one part, have every class in
    each part, and are the same for the same data and ``seed``.

    Raises:
        BadInputError: DATA has splits but no train; or a class is missing from train or tune, or has too few
            images or patients to be in every part: named, with how many there are.
    """
    splits = dataset.splits
    if splits and "train" not in splits:
        raise BadInputError(f"{dataset.origin}: has {' and '.join(splits)}, but no 'train' to learn from")
    if not splits:
        shares = (1 - TUNE_SHARE - HELD_OUT_SHARE, TUNE_SHARE, HELD_OUT_SHARE)
        train, tune, held_out = divide(dataset, dataset.samples, shares, seed)
        return Partition(train, tune, held_out, "held-out")
    train = dataset.split("train")
    if len(splits) == 1:
        raise BadInputError(
            f"{dataset.origin}: has 'train', but neither 'val' nor 'test' to judge by; "
            "add one, or put the class folders straight into it to have it divided"
        )
    held_out_name = splits[-1]
    if len(splits) == 3:
        tune = dataset.split("val")
        _check_present(dataset, (train, tune), ("train", "val"))
    else:
        train, tune = divide(dataset, train, (1 - TUNE_SHARE, TUNE_SHARE), seed)
    return Partition(train, tune, dataset.split(held_out_name), held_out_name)


def divide(
    dataset: Dataset, samples: Sequence[Sample], shares: Sequence[float], seed: int
) -> tuple[list[Sample], ...]:
    """Divide ``samples`` into parts of about ``shares`` of each class, no :attr:`Sample.group` in two parts.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011) over groups in place of single samples:
    the class with the fewest groups goes first, each of its groups to the part that lacks most of that
    class; the last groups of a class go to parts that have none yet. Each part is in the order of
    ``samples``.

    Raises:
        BadInputError: a class is not in every part.
    """
    keys = [sample.group for sample in samples]
    number = {key: index for index, key in enumerate(sorted(set(keys)))}
    group_of = np.array([number[key] for key in keys])
    strata = _strata(dataset, samples)
    counts = np.zeros((len(number), strata.shape[1]), np.int64)
    np.add.at(counts, group_of, strata)
    part_of = _assign(counts, np.asarray(shares, float), np.random.default_rng(seed))[group_of]
    parts = tuple(
        [sample for sample, part in zip(samples, part_of, strict=True) if part == index]
        for index in range(len(shares))
    )
    _check_divided(dataset, samples, parts)
    return parts


def _strata(dataset: Dataset, samples: Sequence[Sample]) -> NDArray[np.int64]:
    """0 and 1 in ``[n, strata]``: the labels, and last whatever has none."""
    columns = {label: index for index, label in enumerate(dataset.labels)}
    strata = np.zeros((len(samples), len(columns) + 1), np.int64)
    for row, sample in zip(strata, samples, strict=True):
        row[[columns[label] for label in sample.labels] or [-1]] = 1
    return strata


def _assign(
    counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """The part of each group, from ``counts[group, class]``."""
    order = rng.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]  # large groups first: small ones even out
    wanted = shares[:, None] * counts.sum(0)
    given = np.zeros_like(wanted, np.int64)
    part_of = np.full(len(counts), -1, np.int64)
    while (part_of < 0).any():
        left = ((counts > 0) & (part_of < 0)[:, None]).sum(0)
        rarest = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
        mine = [group for group in order if part_of[group] < 0 and counts[group, rarest]]
        for position, group in enumerate(mine):
            lacking = given[:, rarest] == 0
            urgent = len(mine) - position <= lacking.sum()
            part_of[group] = max(
                range(len(shares)),
                key=lambda part: (
                    urgent and lacking[part],
                    wanted[part, rarest],
                    wanted[part].sum(),
                    shares[part],
                ),
            )
            wanted[part_of[group]] -= counts[group]
            given[part_of[group]] += counts[group]
    return part_of


def _check_present(dataset: Dataset, parts: Sequence[list[Sample]], names: Sequence[str]) -> None:
    if dataset.task == "segmentation":
        return
    for label in dataset.labels:
        for part, name in zip(parts, names, strict=True):
            if not any(label in sample.labels for sample in part):
                raise BadInputError(f"{dataset.origin}: class '{label}' has no images in {name}")


def _check_divided(dataset: Dataset, samples: Sequence[Sample], parts: tuple[list[Sample], ...]) -> None:
    if not all(parts):
        raise BadInputError(f"{dataset.origin}: {len(samples)} images are too few for {len(parts)} parts")
    if dataset.task == "segmentation":
        return
    for label in dataset.labels:
        if all(any(label in sample.labels for sample in part) for part in parts):
            continue
        mine = [sample for sample in samples if label in sample.labels]
        groups = len({sample.group for sample in mine})
        have, need = f"{len(mine)} images", f"{len(parts)} images"
        if groups < len(mine):
            have += f" of {groups} patients"
            need = f"images of {len(parts)} patients (told by file names, or by labels.csv)"
        raise BadInputError(
            f"{dataset.origin}: class '{label}' has {have}, too few to be in each of {len(parts)} parts; "
            f"it needs at least {need}"
        )
