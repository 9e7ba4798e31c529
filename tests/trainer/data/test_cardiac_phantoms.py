"""The beating heart: its volumes are what they claim to be, and are what the picture shows."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from trainer.data.phantoms import cardiac

PEOPLE = list(range(5))


def seeds(number: int) -> tuple[np.random.SeedSequence, np.random.SeedSequence]:
    patient, exposure = np.random.SeedSequence([11, number]).spawn(2)
    return patient, exposure


def volume_by_discs(mask: np.ndarray, cm_per_pixel: float) -> float:
    """Single-plane volume in ml: the mask turned about its own long axis (Lang et al. 2015)."""
    rows, columns = np.nonzero(mask)
    points = np.stack([columns, rows], axis=1) * cm_per_pixel
    points = points - points.mean(0)
    along, across = np.linalg.svd(points, full_matrices=False)[2]
    if abs(along[0]) > abs(along[1]):
        along, across = across, along
    # A pixel at distance r from the axis sweeps a ring of half a turn: pi r times its area.
    return float((np.pi * np.abs(points @ across)).sum() * cm_per_pixel**2)


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("finding", cardiac.LABELS)
def test_masks_hold_the_volume_that_is_claimed_in_every_frame(finding: cardiac.Finding, person: int) -> None:
    cine = cardiac.clip(finding, *seeds(person), frames=8, frame_ms=120)
    found = [volume_by_discs(mask, cine.cm_per_pixel) for mask in cine.masks]
    assert found == pytest.approx(cine.volume_ml, rel=0.09)


def test_the_two_phases_have_the_largest_and_the_least_volume_of_a_beat() -> None:
    for person in PEOPLE:
        still = cardiac.phases("normal", *seeds(person))
        cine = cardiac.clip("normal", *seeds(person), size=32)
        assert still.volume_ml == pytest.approx([cine.end_diastolic_ml, cine.end_systolic_ml], rel=1e-5)
        assert cine.volume_ml.max() <= cine.end_diastolic_ml + 1e-3
        assert cine.volume_ml.min() >= cine.end_systolic_ml - 1e-3
        sampled = 1 - cine.volume_ml.min() / cine.volume_ml.max()
        assert sampled == pytest.approx(cine.ejection_fraction, abs=0.02)


def test_labels_are_apart_in_ejection_fraction_but_not_in_size() -> None:
    found = {
        label: [cardiac.phases(label, *seeds(person), size=16) for person in range(20)]
        for label in cardiac.LABELS
    }
    assert min(c.ejection_fraction for c in found["normal"]) > 0.53
    assert max(c.ejection_fraction for c in found["reduced"]) < 0.41
    assert max(c.end_diastolic_ml for c in found["normal"]) > min(
        c.end_diastolic_ml for c in found["reduced"]
    )


@pytest.mark.parametrize("person", PEOPLE)
def test_blood_is_dark_and_the_wall_around_it_bright(person: int) -> None:
    for finding in cardiac.LABELS:
        cine = cardiac.phases(finding, *seeds(person))
        for frame, mask in zip(cine.frames.astype(float), cine.masks, strict=True):
            inner = cv2.erode(mask, np.ones((5, 5), np.uint8)) > 0
            ring = (cv2.dilate(mask, np.ones((7, 7), np.uint8)) > 0) & (mask == 0)
            assert frame[inner].mean() < frame[ring].mean() - 40


def test_the_wall_thickens_as_its_muscle_keeps_its_volume() -> None:
    heart = cardiac._Heart.draw(np.random.default_rng(1), "normal")
    rest, tight = heart.at(cardiac.END_DIASTOLE), heart.at(cardiac.END_SYSTOLE)
    muscle = [s.outer**2 * (s.length + heart.apex_wall) - s.radius**2 * s.length for s in (rest, tight)]
    assert muscle[0] == pytest.approx(muscle[1])
    assert tight.outer - tight.radius > 1.2 * (rest.outer - rest.radius) and tight.length < 0.9 * rest.length


def test_speckle_moves_with_the_muscle_and_blood_brings_its_own() -> None:
    cine = cardiac.clip("reduced", *seeds(2), frames=6, frame_ms=20)
    frames = cine.frames.astype(float)
    speckle = frames - np.stack([cv2.GaussianBlur(frame, (0, 0), 3) for frame in frames])
    cavity = cv2.erode(cine.masks.min(0), np.ones((9, 9), np.uint8)) > 0
    cavity[60:] = False  # below, the valves' leaflets swing
    tissue = (frames.min(0) > 60) & (cine.masks.max(0) == 0)

    def alike(where: np.ndarray) -> list[float]:
        return [float(np.corrcoef(a[where], b[where])[0, 1]) for a, b in pairwise(speckle)]

    assert min(alike(tissue)) > 0.7 and np.mean(alike(cavity)) < 0.5


def test_seeds_decide_every_pixel_and_the_patient_the_heart() -> None:
    patient, exposure = seeds(0)
    one, again = (cardiac.clip("normal", patient, exposure, size=64, frames=3) for _ in range(2))
    other = cardiac.clip("normal", patient, seeds(1)[1], size=64, frames=3)
    assert (one.frames == again.frames).all() and (one.masks == again.masks).all()
    assert (one.frames != other.frames).mean() > 0.2
    assert one.ejection_fraction == other.ejection_fraction
    assert one.frames.shape == one.masks.shape == (3, 64, 64) and set(np.unique(one.masks)) == {0, 1}
