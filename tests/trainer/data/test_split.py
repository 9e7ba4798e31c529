"""Dividing data: by patient, by class, by seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BadInputError
from trainer.data.dataset import Dataset, Sample
from trainer.data.split import divide, partition

IMAGE = np.zeros((4, 4), np.uint8)


def dataset(*rows: tuple[str, str | None, str | None]) -> Dataset:
    """Of label, patient and split; labels joined by ";" make it multi-label."""
    samples = [
        Sample(
            str(i), tuple(label for label in labels.split(";") if label), split, array=IMAGE, patient=patient
        )
        for i, (labels, patient, split) in enumerate(rows)
    ]
    names = tuple(sorted({label for sample in samples for label in sample.labels}))
    multi = any(len(sample.labels) != 1 for sample in samples)
    return Dataset(samples, names, "multi-label" if multi else "single-label", Path("data"))


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "a;b", "b;c", ""]),
        st.none() | st.integers(0, 12).map(str),
        st.none(),
    ),
    min_size=3,
    max_size=60,
)


@given(ROWS, st.integers(0, 3))
@settings(max_examples=150)
def test_no_patient_is_ever_in_two_parts_and_nothing_is_lost(
    rows: list[tuple[str, str | None, None]], seed: int
) -> None:
    data = dataset(*rows)
    try:
        parts = partition(data, seed)
    except BadInputError as error:
        assert "too few" in str(error)
        return
    three = [parts.train, parts.tune, parts.held_out]
    assert Counter(s.name for part in three for s in part) == Counter(s.name for s in data.samples)
    groups = [{s.group for s in part} for part in three]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    for part in three:
        assert {label for s in part for label in s.labels} == set(data.labels)


@given(st.lists(st.sampled_from("abc"), min_size=9, max_size=200), st.integers(0, 3))
def test_single_images_are_divided_in_proportion_within_each_class(labels: list[str], seed: int) -> None:
    count = Counter(labels)
    data = dataset(*((label, None, None) for label in labels))
    if min(count.values()) < 3:
        with pytest.raises(BadInputError, match="too few"):
            partition(data, seed)
        return
    parts = partition(data, seed)
    for label, n in count.items():
        for part, share in ((parts.train, 0.7), (parts.tune, 0.15), (parts.held_out, 0.15)):
            assert abs(sum(s.labels[0] == label for s in part) - share * n) <= 2


def test_the_seed_alone_decides() -> None:
    data = dataset(*(("ab"[i % 2], None, None) for i in range(60)))
    names = [[s.name for s in partition(data, seed).held_out] for seed in (1, 1, 2)]
    assert names[0] == names[1] != names[2]


def test_what_data_itself_splits_is_kept() -> None:
    rows = [(label, None, split) for label in "ab" for split in ("train", "val", "test") for _ in range(9)]
    parts = partition(dataset(*rows), 0)
    assert parts.held_out_name == "test"
    assert {s.split for s in parts.train} == {"train"}
    assert {s.split for s in parts.tune} == {"val"}
    assert {s.split for s in parts.held_out} == {"test"}


@pytest.mark.parametrize("only", ["val", "test"])
def test_the_only_other_split_is_held_out_and_train_gives_the_tuning_part(only: str) -> None:
    rows = [(label, None, split) for label in "ab" for split in ("train", only) for _ in range(40)]
    parts = partition(dataset(*rows), 0)
    assert parts.held_out_name == only
    assert len(parts.held_out) == 80 and {s.split for s in parts.held_out} == {only}
    assert len(parts.tune) == 12 and {s.split for s in parts.tune} == {"train"}


def test_a_class_too_small_is_named_with_what_it_needs() -> None:
    data = dataset(*[("a", None, None)] * 9, *[("b", None, None)] * 2)
    with pytest.raises(BadInputError, match=r"class 'b' has 2 images, too few .* at least 3 images"):
        partition(data, 0)
    data = dataset(*[("a", None, None)] * 9, *[("b", "7", None)] * 8)
    with pytest.raises(BadInputError, match=r"class 'b' has 8 images of 1 patients, too few .* 3 patients"):
        partition(data, 0)


def test_splits_that_cannot_be_learned_from_are_refused() -> None:
    with pytest.raises(BadInputError, match="no 'train'"):
        partition(dataset(("a", None, "val"), ("b", None, "test")), 0)
    with pytest.raises(BadInputError, match="neither 'val' nor 'test'"):
        partition(dataset(("a", None, "train"), ("b", None, "train")), 0)
    with pytest.raises(BadInputError, match="class 'b' has no images in val"):
        partition(
            dataset(*(("ab"[i], None, "train") for i in (0, 1)), ("a", None, "val"), ("a", None, "test")), 0
        )


def test_large_data_is_divided_quickly() -> None:
    data = dataset(*(("abc"[i % 3], str(i // 3), None) for i in range(30_000)))
    train, tune = divide(data, data.samples, (0.8, 0.2), 0)
    assert abs(len(tune) - 6000) < 60 and len(train) + len(tune) == 30_000
