"""A share of what ``benchmarks/fuzz.py`` does at length: damaged inputs are refused in one line, or taken."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks import fuzz


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_damaged_inputs_are_taken_or_refused(kind: str, tmp_path: Path) -> None:
    take, whole = fuzz.target(kind, tmp_path), fuzz.seeds(kind)
    for one in whole:
        take(one)
    for number in range(60):
        take(fuzz.input_number(kind, 1, number, whole))


def test_the_same_seed_gives_the_same_inputs() -> None:
    whole = fuzz.seeds("command")
    assert fuzz.input_number("command", 1, 7, whole) == fuzz.input_number("command", 1, 7, whole)
    assert len({fuzz.damaged(whole, random.Random(n)) for n in range(50)}) > 40


def test_a_defect_is_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge.imaging import decode

    def broken(*_: object) -> None:
        raise KeyError("defect")

    monkeypatch.setattr(decode, "decode_file", broken)
    with pytest.raises(KeyError):
        fuzz.target("image", tmp_path)(b"anything")
