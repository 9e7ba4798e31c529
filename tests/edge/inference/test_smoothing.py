from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.smoothing import LEAST_FRAMES, UPDATE_S, WEIGHT, Change, Smoothing, off_threshold

Share = st.floats(0, 1)
Threshold = st.floats(0.01, 0.99)
RATE = 1 / 30


def follow(probabilities: list[float], threshold: float = 0.5) -> list[tuple[int, Change]]:
    """Changes with the number of the frame at which each came; the stream's end comes last."""
    rules = Smoothing({"lesion": threshold})
    changes = [
        (n, change)
        for n, p in enumerate(probabilities)
        for change in rules.frame(str(n), {"lesion": p}, n * RATE)
    ]
    return changes + [(len(probabilities), change) for change in rules.close()]


def kinds(changes: list[tuple[int, Change]]) -> list[str]:
    return [change.kind for _, change in changes]


def test_what_is_seen_for_a_while_starts_and_ends_once_with_its_best_frame():
    changes = follow([0.0] * 5 + [0.8] * 5 + [0.97] + [0.8] * 5 + [0.0] * 20)
    assert kinds(changes) == ["started", "ended"]
    (_, started), (_, ended) = changes
    assert started.observation.first == ended.observation.first
    assert (ended.observation.best, ended.observation.probability) == ("10", 0.97)


@given(st.integers(0, 20), Threshold.filter(lambda t: t > WEIGHT))
def test_a_single_frame_starts_nothing(before, threshold):
    assert follow([0.0] * before + [1.0] + [0.0] * 20, threshold) == []


@given(Threshold, st.floats(0, 1), st.integers(1, 200), st.booleans(), st.integers(0, 10))
def test_alternating_around_the_threshold_starts_one_observation_at_most(threshold, width, n, high, quiet):
    width *= min(threshold, 1 - threshold)
    sides = [threshold + width, threshold - width]
    if not high:
        sides.reverse()
    changes = follow([0.0] * quiet + [sides[i % 2] for i in range(n)], threshold)
    assert kinds(changes).count("started") <= 1
    # Nor does it end before the stream does.
    assert all(at == quiet + n for at, change in changes if change.kind == "ended")


@given(st.lists(Share, max_size=150), Threshold)
def test_an_end_follows_each_start_and_the_best_frame_is_the_greatest(probabilities, threshold):
    changes = follow(probabilities, threshold)
    said = kinds(changes)
    assert said.count("started") == said.count("ended")
    open_ = None
    for at, change in changes:
        seen = change.observation
        if change.kind == "started":
            assert open_ is None
            open_ = seen.first
        assert open_ == seen.first
        frames = probabilities[int(seen.first) : min(at + 1, len(probabilities))]
        assert seen.frames == len(frames) >= LEAST_FRAMES
        assert seen.probability == max(frames) == probabilities[int(seen.best)]
        if change.kind == "ended":
            open_ = None
    assert open_ is None


@given(st.lists(Share, max_size=400))
def test_updates_are_improvements_and_rare(probabilities):
    last = (0.0, 0)
    for at, change in follow(probabilities, 0.2):
        if change.kind == "updated":
            assert change.observation.probability > last[0]
            assert (at - last[1]) * RATE >= UPDATE_S - 1e-9
        last = (change.observation.probability, at)


def test_a_better_frame_is_told_once_the_time_has_come():
    changes = follow([0.8] * 100 + [0.9] * 30)
    assert kinds(changes) == ["started", "updated", "ended"]
    assert changes[1][1].observation.best == "100"


def test_frames_without_a_result_count_as_not_seen():
    rules = Smoothing({"lesion": 0.5})
    for n in range(10):
        rules.frame(str(n), {"lesion": 0.9}, n)
    ended = [c for n in range(10, 30) for c in rules.frame(str(n), {}, n) if c.kind == "ended"]
    assert len(ended) == 1


def test_labels_are_followed_apart():
    rules = Smoothing({"cyst": 0.5, "mass": 0.5})
    changes = [c for n in range(9) for c in rules.frame(str(n), {"cyst": 0.9, "mass": 0.1}, n)]
    assert {c.observation.label for c in changes} == {"cyst"}


@pytest.mark.parametrize(("threshold", "off"), [(0.5, 0.4), (0.2, 0.1), (0.1, 0.05), (0.02, 0.01)])
def test_every_observation_can_end(threshold, off):
    assert off_threshold(threshold) == pytest.approx(off)
    assert kinds(follow([1.0] * 10 + [0.0] * 60, threshold)) == ["started", "ended"]
