from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from edge.bundle.arrays import pack
from edge.bundle.errors import BundleError
from edge.inference import ood
from edge.inference.ood import OodModel, fit


@pytest.fixture(scope="module")
def usual() -> np.ndarray:
    """Embeddings ``[400, 6]`` with very unequal, correlated directions."""
    random = np.random.default_rng(0)
    return random.normal(size=(400, 6)) @ random.normal(size=(6, 6)) * [5, 1, 1, 1, 0.2, 0.1] + 3


def test_shrinkage_is_that_of_ledoit_and_wolf(usual) -> None:
    centred = usual[:30] - usual[:30].mean(axis=0)
    expected = LedoitWolf(assume_centered=True).fit(centred).covariance_
    np.testing.assert_allclose(ood._shrunk_covariance(centred), expected, rtol=1e-9)


def test_the_score_is_the_mahalanobis_distance(usual) -> None:
    model = fit(usual, usual[:50], 0.02)
    centred = usual - usual.mean(axis=0)
    inverse = np.linalg.inv(ood._shrunk_covariance(centred))
    for embedding, offset in zip(usual[:5], centred[:5], strict=True):
        assert model.score(embedding) == pytest.approx(np.sqrt(offset @ inverse @ offset), rel=1e-3)


@pytest.mark.parametrize("rejection", [0.0, 0.02, 0.1])
def test_no_more_than_the_asked_share_is_rejected(usual, rejection) -> None:
    tuning = usual[200:]
    model = fit(usual[:200], tuning, rejection)
    rejected = np.mean([model.score(embedding) > model.limit for embedding in tuning])
    assert rejection - 1 / len(tuning) <= rejected <= rejection


def test_a_shift_across_the_usual_directions_is_seen(usual) -> None:
    model = fit(usual[:200], usual[200:], 0.02)
    _, directions = np.linalg.eigh(np.cov(usual.T))
    narrow, wide = directions[:, 0], directions[:, -1]
    mean = usual.mean(axis=0)
    assert model.score(mean + 3 * narrow) > model.limit > model.score(mean + 3 * wide)


def test_dead_features_and_few_images_do_no_harm(usual) -> None:
    dead = np.hstack([usual[:8], np.zeros((8, 20))])
    model = fit(dead, dead, 0.0)
    assert np.isfinite(model.whitening).all() and 0 < model.limit < np.inf
    with pytest.raises(ValueError, match="do not vary"):
        fit(np.ones((5, 3)), np.ones((5, 3)), 0.0)
    with pytest.raises(ValueError, match="at least two"):
        fit(np.ones((1, 3)), np.ones((5, 3)), 0.0)


def test_the_model_survives_the_file(usual) -> None:
    model = fit(usual, usual, 0.02)
    back = OodModel.from_npz(model.to_npz())
    assert back.limit == model.limit and back.score(usual[3]) == model.score(usual[3])


@pytest.mark.parametrize(
    "change",
    [
        {"limit": np.array(-1.0)},
        {"limit": np.array(np.nan)},
        {"limit": np.array([1.0, 2.0])},
        {"mean": np.zeros(3, np.float32)},
        {"mean": np.full(2, np.nan, np.float32)},
        {"whitening": np.zeros((2, 2))},
    ],
)
def test_other_arrays_are_refused(change) -> None:
    arrays = {
        "mean": np.zeros(2, np.float32),
        "whitening": np.eye(2, dtype=np.float32),
        "limit": np.array(2.0),
    }
    assert OodModel.from_npz(pack(arrays)).limit == 2
    with pytest.raises(BundleError, match=r"ood\.npz"):
        OodModel.from_npz(pack({**arrays, **change}))
