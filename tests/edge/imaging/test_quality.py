"""Quality: what the measures mean, what is refused, and limits that know their own kind of image."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import pytest

from edge.bundle.manifest import QualityLimits, Range
from edge.bundle.reasons import Reason
from edge.bundle.steps import Grayscale, Resize
from edge.imaging.frame import Pixels
from edge.imaging.quality import check, fit_limits, measure
from edge.imaging.steps import apply_steps

_STEPS = [Grayscale(), Resize(height=96, width=96)]


def _measured(pixels: Pixels) -> dict[str, float]:
    return measure(pixels, apply_steps(pixels, _STEPS))


def _radiograph(seed: int) -> Pixels:
    """Smooth bright fields between dark lungs, with grain: what a fit is to recognize again."""
    random = np.random.default_rng(seed)
    height, width = random.integers(180, 260, 2).tolist()
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    body = 70 + 110 * np.exp(-((columns / random.uniform(0.7, 1.1)) ** 4) - (rows / 1.2) ** 4)
    for centre in (-0.4, 0.4):
        body -= random.uniform(60, 110) * np.exp(-(((columns - centre) / 0.25) ** 2) - (rows / 0.6) ** 2)
    body = body * random.uniform(0.8, 1.2) + random.uniform(-15, 15)
    return np.clip(body + random.normal(0, 4, body.shape), 0, 255).astype(np.uint8)


def _photograph() -> Pixels:
    random = np.random.default_rng(3)
    blobs = random.integers(0, 256, (9, 12, 3), np.uint8)
    return np.asarray(cv2.resize(blobs, (640, 480), interpolation=cv2.INTER_LINEAR), np.uint8)


def _document() -> Pixels:
    page = np.full((1100, 850), 250, np.uint8)
    for row in range(60, 1040, 22):
        cv2.putText(page, "Referral letter, page one of two", (50, row), 0, 0.7, 20, 2)
    return page


def _noise(*size: int) -> Pixels:
    return np.random.default_rng(4).integers(0, 256, size, np.uint8)


def test_measures_are_what_they_say() -> None:
    gray = _noise(64, 48)
    found = _measured(gray)
    assert found["side"] == 48 and found["colour"] == 0
    assert found["brightness"] == pytest.approx(gray.mean()) and found["contrast"] == pytest.approx(
        gray.std()
    )
    model = _noise(96, 96)
    laplacian = cv2.Laplacian(model, cv2.CV_64F)
    assert measure(gray, model)["sharpness"] == pytest.approx(laplacian.var() / model.var())
    colour = _noise(50, 60, 3)
    assert _measured(colour)["colour"] == pytest.approx(np.ptp(colour.astype(int), axis=2).mean())


def test_measures_of_a_large_image_are_those_of_its_sample() -> None:
    large = _noise(1200, 1600)
    found = _measured(large)
    assert found["side"] == 1200
    assert found["brightness"] == pytest.approx(large.mean(), rel=0.02)
    assert found["contrast"] == pytest.approx(large.std(), rel=0.02)


def test_sharpness_falls_with_blur_and_ignores_contrast() -> None:
    picture = _radiograph(0)
    blurred = np.asarray(cv2.GaussianBlur(picture, (0, 0), 9), np.uint8)
    assert _measured(blurred)["sharpness"] < _measured(picture)["sharpness"] / 3
    noise = _noise(96, 96)
    assert _measured(noise // 4 + 90)["sharpness"] == pytest.approx(_measured(noise)["sharpness"], rel=0.05)


_GOOD = {"side": 100.0, "brightness": 100.0, "contrast": 40.0, "sharpness": 1.0, "colour": 0.0}
_LIMITS = QualityLimits(
    min_side=32,
    brightness=Range(min=20, max=200),
    contrast=Range(min=10, max=90),
    sharpness=Range(min=0.1, max=5),
    max_colour=5,
)


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({}, []),
        ({"side": 31.0}, [Reason.TOO_SMALL]),
        ({"brightness": 19.9}, [Reason.TOO_DARK]),
        ({"brightness": 200.1}, [Reason.TOO_BRIGHT]),
        ({"contrast": 9.9}, [Reason.LOW_CONTRAST]),
        ({"contrast": 1.4, "sharpness": 0.0, "brightness": 0.0}, [Reason.BLANK]),
        ({"contrast": 90.1}, [Reason.NOISY]),
        ({"sharpness": 0.09}, [Reason.BLURRED]),
        ({"sharpness": 5.1}, [Reason.NOISY]),
        ({"colour": 5.1, "side": 1.0}, [Reason.TOO_SMALL, Reason.UNEXPECTED_COLOUR]),
    ],
)
def test_each_measure_outside_has_its_reason(change: Mapping[str, float], reasons: list[Reason]) -> None:
    assert list(check({**_GOOD, **change}, _LIMITS)) == reasons


def test_fitted_limits_pass_their_kind_and_refuse_others() -> None:
    limits = fit_limits([_measured(_radiograph(seed)) for seed in range(50)], rejection=0.02)
    unseen = [check(_measured(_radiograph(seed)), limits) for seed in range(100, 140)]
    assert sum(map(bool, unseen)) <= 1
    assert Reason.UNEXPECTED_COLOUR in check(_measured(_photograph()), limits)
    assert check(_measured(_document()), limits)
    for size in ((64, 64), (400, 500), (1000, 1400)):
        assert Reason.NOISY in check(_measured(_noise(*size)), limits)
    for value in (0, 90, 255):
        assert check(_measured(np.full((300, 300), value, np.uint8)), limits) == (Reason.BLANK,)
    blurred = np.asarray(cv2.GaussianBlur(_radiograph(1), (0, 0), 9), np.uint8)
    assert Reason.BLURRED in check(_measured(blurred), limits)


def test_no_more_than_the_stated_share_of_the_fitted_is_refused() -> None:
    random = np.random.default_rng(1)
    measures = [
        {"side": 200.0, **{key: float(value) for key, value in zip(list(_GOOD)[1:], row, strict=True)}}
        for row in np.clip(random.lognormal(2, 1, (1000, 4)), 2, 120)
    ]
    for rejection in (0.0, 0.02, 0.2):
        limits = fit_limits(measures, rejection)
        assert sum(bool(check(each, limits)) for each in measures) <= rejection * len(measures)


def test_without_images_the_limits_are_the_defaults() -> None:
    assert fit_limits([], 0.02) == QualityLimits()
