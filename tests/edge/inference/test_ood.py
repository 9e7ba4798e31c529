from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from edge.bundle.arrays import pack
from edge.bundle.errors import BundleError
from edge.inference import ood
from edge.inference.ood import OodModel, fit, layout, with_layout


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


def chest(seed: int, side: int = 48) -> np.ndarray:
    """A gray picture with dark lungs above and a bright belly below, as its seed has it."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side
    pixels = 90 + 100 * rows + random.normal(0, 12, (side, side))
    for centre in (0.3, 0.7):
        lung = np.hypot((columns - centre - random.normal(0, 0.02)) / 0.14, (rows - 0.4) / 0.3) < 1
        pixels[lung] -= random.uniform(50, 80)
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def layouts() -> np.ndarray:
    return np.stack([layout(chest(seed)) for seed in range(300)])


def test_the_layout_is_exact_area_means_without_brightness_and_contrast() -> None:
    pixels = np.kron(np.arange(36, dtype=np.uint8).reshape(6, 6) * 5, np.ones((4, 7), np.uint8))
    expected = (np.arange(36) - 17.5) / np.arange(36).std()
    np.testing.assert_allclose(layout(pixels), expected, rtol=1e-6)
    np.testing.assert_allclose(layout(pixels // 5 * 3 + 40), expected, rtol=1e-6)
    np.testing.assert_allclose(layout(np.stack([pixels] * 3, axis=-1)), expected, rtol=1e-6)
    assert not layout(np.full((30, 30), 77, np.uint8)).any()
    assert layout(pixels, 3).shape == (9,)


@pytest.mark.parametrize("with_embedding", [True, False])
def test_an_image_upside_down_is_refused_and_usual_ones_are_not(usual, layouts, with_embedding) -> None:
    embeddings = fit(usual, usual, 0.02) if with_embedding else None
    model = with_layout(embeddings, layouts, range(len(layouts)), 0.02)
    near = usual.mean(axis=0)
    fresh = [chest(seed) for seed in range(1000, 1200)]
    refused = np.mean([model.score(near, layout(pixels)) > model.limit for pixels in fresh])
    assert refused <= 0.06
    for turned in (np.s_[::-1, ::-1], np.s_[::-1]):
        assert all(model.score(near, layout(pixels[turned])) > model.limit for pixels in fresh)
    if embeddings is not None:
        assert model.limit == embeddings.limit
        assert model.score(near + 100, layouts[0]) == embeddings.score(near + 100)
    with pytest.raises(ValueError, match="missing"):
        model.score(near)


def test_patients_are_not_measured_by_themselves(layouts) -> None:
    """Ten copies of each image of one patient tell no more than one does."""
    copies = np.repeat(layouts[:40], 10, axis=0)
    honest = with_layout(None, copies, [number // 10 for number in range(400)], 0.02)
    flattered = with_layout(None, copies, range(400), 0.02)
    assert honest.limit > 1.2 * flattered.limit


def test_layouts_survive_the_file_and_odd_ones_are_refused(usual, layouts) -> None:
    model = with_layout(fit(usual, usual, 0.02), layouts, range(len(layouts)), 0.02)
    back = OodModel.from_npz(model.to_npz())
    assert back.layout_side == 6
    assert back.score(usual[0], layouts[0]) == model.score(usual[0], layouts[0])
    alone = OodModel.from_npz(with_layout(None, layouts, range(len(layouts)), 0.02).to_npz())
    assert alone.score(None, layouts[0]) > 0
    with pytest.raises(BundleError, match="no square"):
        OodModel.from_npz(OodModel(model.mean, model.whitening, 1.0, layouts[0][:5], layouts[:5]).to_npz())
    with pytest.raises(ValueError, match="do not vary"):
        with_layout(None, np.zeros((9, 36)), range(9), 0.02)
