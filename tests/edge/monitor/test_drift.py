from __future__ import annotations

import json
import math
import random

import pytest
from fleet import Simulated
from hypothesis import given
from hypothesis import strategies as st

from edge.monitor.drift import BINS, alarm, limit, measures, psi
from edge.mqtt.payloads import Finding

counts = st.lists(st.integers(0, 1000), min_size=BINS, max_size=BINS)


@given(counts, counts)
def test_the_index_is_never_negative_and_nought_for_the_same(expected, seen):
    assert psi(expected, expected) == pytest.approx(0)
    assert psi(expected, seen) >= 0 and math.isfinite(psi(expected, seen))


def test_the_index_is_that_of_the_definition():
    expected, seen = [5000, 5000], [7000, 3000]
    by_hand = (0.7 - 0.5) * math.log(0.7 / 0.5) + (0.3 - 0.5) * math.log(0.3 / 0.5)
    assert psi(expected, seen) == pytest.approx(by_hand, rel=1e-3)


def test_chance_alone_hardly_ever_raises_an_alarm():
    chance = random.Random(3)

    def drawn(n: int) -> list[int]:
        made = [0] * BINS
        for _ in range(n):
            made[min(BINS - 1, int(chance.betavariate(2, 3) * BINS))] += 1
        return made

    alarms = sum(alarm(drawn(200), drawn(200)) for _ in range(300))
    assert alarms <= 2


def test_a_shift_raises_one_only_on_enough_findings():
    before, after = [100, 100, 50, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 50, 100, 100, 0, 0]
    assert alarm(before, after)
    assert not alarm(before, [n // 4 for n in after])
    assert limit(before, after) > 0.2


def test_every_measure_falls_into_a_bin():
    cart = Simulated("clinic", "cart-1")
    for quality in (
        {"brightness": -5.0, "sharpness": 0.0},
        {"brightness": 1e9, "sharpness": 1e9},
        {"odd": 1.0},
    ):
        text = json.loads(cart.finding("positive", 1.0)[1])
        text["evidence"] |= {"quality": quality, "ood_score": 9.0, "ood_limit": 1.0}
        found = dict(measures(Finding.model_validate_json(json.dumps(text))))
        assert all(0 <= bin_ < BINS for bin_ in found.values())
        assert found["probability pneumonia"] == found["novelty"] == 9
        assert "quality odd" not in found
