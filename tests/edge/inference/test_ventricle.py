"""Area and ejection fraction against ellipses, whose volumes the area-length method gives exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.inference.ventricle import Cavity, Ejection, Refusal, cavity, ejection

FRAMES_A_BEAT = 22


def ellipse(
    long: float,
    short: float,
    *,
    tilt: float = 0.2,
    centre: tuple[float, float] = (64, 64),
    side: int = 128,
    pixel: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """An ellipse of axes ``long`` and ``short``, in the unit of ``pixel``; ``tilt`` from the vertical."""
    rows, columns = np.mgrid[:side, :side]
    y, x = (rows - centre[0]) * pixel[0], (columns - centre[1]) * pixel[1]
    along, across = y * math.cos(tilt) + x * math.sin(tilt), x * math.cos(tilt) - y * math.sin(tilt)
    return np.hypot(2 * along / long, 2 * across / short) <= 1


def ejected(phase: float) -> float:
    """Share of the stroke volume that has left: a contraction, filling, a pause, the atria's kick."""

    def ease(start: float, end: float) -> float:
        return math.sin(math.pi / 2 * min(max((phase - start) / (end - start), 0), 1)) ** 2

    return ease(0, 0.36) - 0.7 * ease(0.36, 0.6) - 0.3 * ease(0.84, 1)


def beating(fraction: float, phases: Sequence[float], **shape: float) -> list[Cavity | None]:
    """Frames at ``phases`` (in beats) of a heart of 60 x 26 at end-diastole that gets thinner."""
    frames: list[Cavity | None] = []
    for phase in phases:
        thin = math.sqrt(1 - fraction * ejected(phase % 1))
        frames.append(cavity(ellipse(60, 26 * thin, **shape)))
    return frames


def beats(count: float, start: float = 0.0) -> np.ndarray:
    return start + np.arange(round(count * FRAMES_A_BEAT)) / FRAMES_A_BEAT


@pytest.mark.parametrize("tilt", [0.0, 0.5, 1.4])
@pytest.mark.parametrize("pixel", [(1.0, 1.0), (0.05, 0.05), (0.08, 0.05)])
def test_an_ellipse_has_the_volume_of_its_spheroid(tilt: float, pixel: tuple[float, float]) -> None:
    unit = pixel[1]
    found = cavity(ellipse(60 * unit, 30 * unit, tilt=tilt, pixel=pixel), pixel)
    assert found is not None and not found.cut_off
    assert found.area == pytest.approx(math.pi / 4 * 60 * 30 * unit**2, rel=0.02)
    assert found.length == pytest.approx(60 * unit, rel=0.04)
    assert found.volume == pytest.approx(math.pi / 6 * 60 * 30**2 * unit**3, rel=0.05)


@settings(max_examples=25, deadline=None)
@given(
    fraction=st.floats(0.15, 0.75),
    start=st.floats(0, 1),
    count=st.floats(1.3, 4),
    tilt=st.floats(-0.5, 0.5),
)
def test_the_ejection_fraction_is_found_wherever_the_clip_begins(
    fraction: float, start: float, count: float, tilt: float
) -> None:
    found = ejection(beating(fraction, beats(count, start), tilt=tilt))
    assert isinstance(found, Ejection)
    assert found.fraction == pytest.approx(fraction, abs=0.05)
    assert 1 <= found.beats <= math.ceil(count) + 1
    assert abs((start + found.end_diastole / FRAMES_A_BEAT + 0.5) % 1 - 0.5) < 0.12
    assert abs((start + found.end_systole / FRAMES_A_BEAT) % 1 - 0.36) < 0.12


def test_several_beats_give_the_median() -> None:
    frames = [f for fraction in (0.5, 0.6, 0.3, 0.6, 0.6) for f in beating(fraction, beats(1))]
    found = ejection(frames)
    assert isinstance(found, Ejection)
    assert found.beats == 5
    assert found.fraction == pytest.approx(0.6, abs=0.03)


def test_a_clip_that_was_cut_at_end_diastole_is_one_beat() -> None:
    found = ejection(beating(0.6, beats(1.05)))
    assert isinstance(found, Ejection)
    assert (found.beats, found.end_diastole) == (1, 0)
    assert found.fraction == pytest.approx(0.6, abs=0.03)


def test_single_bad_frames_change_nothing() -> None:
    frames = beating(0.55, beats(2.5, 0.4))
    frames[7], frames[30] = None, cavity(ellipse(80, 50))
    frames[18] = cavity(ellipse(20, 10))
    found = ejection(frames)
    assert isinstance(found, Ejection)
    assert found.fraction == pytest.approx(0.55, abs=0.04)


def test_stray_pixels_are_no_cavity_and_pieces_are_none() -> None:
    mask = ellipse(60, 26)
    clean = cavity(mask)
    mask[5:8, 100:103] = True
    assert cavity(mask) == clean
    mask[90:120, 90:120] = True
    assert cavity(mask) is None
    assert cavity(np.zeros((64, 64), bool)) is None


@pytest.mark.parametrize(
    ("phases", "because"),
    [
        (beats(0.3), "too few frames"),
        (beats(0.4, 0.4), "filling alone"),
        (beats(0.36, 0.05), "a contraction without its beginning or end"),
        (beats(0.8, 0.15), "falling fast at first, and filling pauses at the end"),
        (np.zeros(40), "a heart that stands still"),
    ],
)
def test_less_than_a_contraction_gives_nothing(phases: np.ndarray, because: str) -> None:
    assert ejection(beating(0.6, phases)) is Refusal.NO_BEAT, because


def test_what_is_not_seen_is_not_guessed() -> None:
    frames = beating(0.6, beats(2))
    assert ejection([None] * len(frames)) is Refusal.NOT_SEEN
    assert ejection([f if n % 3 else None for n, f in enumerate(frames)]) is Refusal.NOT_SEEN
    assert ejection([None if 5 <= n < 10 else f for n, f in enumerate(frames)]) is Refusal.NOT_SEEN


def test_a_ventricle_beyond_the_image_is_not_measured() -> None:
    assert ejection(beating(0.6, beats(2), centre=(20, 64))) is Refusal.CUT_OFF


def test_an_outline_that_jumps_is_not_measured() -> None:
    random = np.random.default_rng(0)
    frames = beating(0.6, beats(2))
    jumping = [
        cavity(ellipse(60, 26, centre=(50 + 25 * (n % 2), 64))) if random.random() < 0.4 else frame
        for n, frame in enumerate(frames)
    ]
    assert ejection(jumping) is Refusal.UNSTEADY
    swelling = [cavity(ellipse(60, 26 * random.uniform(0.4, 1))) for _ in frames]
    assert ejection(swelling) is Refusal.UNSTEADY


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.tuples(st.floats(0.1, 500), st.floats(0.1, 90)), max_size=60))
def test_whatever_the_masks_are_there_is_an_answer(sizes: list[tuple[float, float] | None]) -> None:
    frames = [None if s is None else Cavity(s[0], s[1], (50.0, 50.0), False) for s in sizes]
    found = ejection(frames)
    if isinstance(found, Ejection):
        assert 0 < found.fraction <= 0.9
        assert 0 <= found.end_diastole < len(frames) and 0 <= found.end_systole < len(frames)
    else:
        assert found in set(Refusal)
