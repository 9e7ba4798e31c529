"""A budget is read as it is meant, or refused by the key that is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.target import target
from edge.errors import BadInputError
from trainer.budget import Budget, Found, parse_budget


def test_all_keys_and_units() -> None:
    budget = parse_budget("size=250kB, latency=5ms,target=raspberry-pi-4,minutes=20,transfer=0.1 MB")
    assert budget == Budget(size=250_000, transfer=100_000, latency=5, target="raspberry-pi-4", minutes=20)
    assert budget.factor == target("raspberry-pi-4").latency_factor
    assert budget.in_words() == "size 250 kB, transfer 100 kB, latency 5 ms on raspberry-pi-4"
    assert parse_budget("latency=.5s").latency == 500
    assert parse_budget("size=1MiB,minutes=1h") == Budget(size=1 << 20, minutes=60)
    assert parse_budget("latency=900us").in_words() == "latency 0.9 ms on this machine"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "'' is not KEY=VALUE"),
        ("size", "'size' is not KEY=VALUE"),
        ("size=", "'size=' is not KEY=VALUE"),
        ("weight=3kg", "unknown key 'weight'; known: size, transfer, latency, target, minutes"),
        ("size=big", "size='big' is not a number with a unit"),
        ("size=250", "size='250' is not a number with a unit"),
        ("size=5ms", "size='5ms' is not a number with a unit"),
        ("size=0kB", "size='0kB' is out of range"),
        ("latency=-5ms", "latency='-5ms' is not a number"),
        ("size=1kB,size=2kB", "'size' is given twice"),
        ("target=raspberry-pi-4,minutes=3", "give size, transfer or latency"),
        ("latency=5ms,minutes=soon", "minutes='soon'"),
        ("size=1kB,", "'' is not KEY=VALUE"),
    ],
)
def test_what_is_wrong_is_named(text: str, named: str) -> None:
    with pytest.raises(BadInputError, match=r"^--budget: ") as refusal:
        parse_budget(text)
    assert named in str(refusal.value)
    assert refusal.value.exit_code == 2


def test_a_target_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(BadInputError, match=r"unknown target 'toaster'; known targets: .*raspberry-pi-5"):
        parse_budget("size=1MB,target=toaster")


@given(
    st.text(max_size=40) | st.from_regex(r"(size|latency|minutes)=[0-9.]{1,9}[a-zA-Z]{0,3}", fullmatch=True)
)
def test_any_text_is_a_budget_or_bad_input(text: str) -> None:
    try:
        assert parse_budget(text).in_words()
    except BadInputError as error:
        assert "\n" not in str(error) or "\n" in text


def test_excess_is_that_of_the_limit_that_is_exceeded_most() -> None:
    found = Found(
        channels=0.5,
        sparsity=0.5,
        method="quantization-aware",
        auroc=None,
        accuracy=0.9,
        size=200,
        transfer=100,
        latency=3.0,
    )
    assert found.excess(Budget(size=100, latency=6)) == 2
    assert found.excess(Budget(transfer=200)) == 0.5
    assert found.score == 0.9
    assert found.settings() == "50% of the channels, 50% of the weights pruned, quantization-aware"
