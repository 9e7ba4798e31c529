"""Channels are followed through every network, and what is removed is what says nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from edge.errors import BadInputError
from trainer.backend import keras
from trainer.compression.channels import importance, narrow
from trainer.compression.quantization import describe, to_int8
from trainer.models import build
from trainer.models.blocks import classifier, convolution, inverted_residual
from trainer.recipe import ModelSpec

pytestmark = pytest.mark.slow
SHAPE = (28, 28, 1)
CLASSES = 3
KINDS = ("cnn", "densenet", "dnn", "inverted residuals", "textbook", "unet")


def images(n: int = 16) -> Any:
    return np.random.default_rng(1).integers(0, 256, (n, *SHAPE)).astype(np.uint8)


def network(kind: str) -> Any:
    """Untrained, with statistics, scales and biases that are not all alike."""
    keras.utils.set_random_seed(0)
    if kind == "inverted residuals":
        # What EfficientNet-Lite0 and MobileNet repeat, once: all of their layers take half a minute.
        image = keras.Input(SHAPE, name="image")
        x = convolution(image, 16, kernel=3, stride=2, name="stem")
        for number, (expansion, stride) in enumerate(((1, 1), (6, 2), (6, 1))):
            x = inverted_residual(x, 16, expansion=expansion, kernel=5, stride=stride, name=f"block{number}")
        model = keras.Model(image, classifier(convolution(x, 32, name="features"), 0.2, CLASSES))
    else:
        model = build(ModelSpec(kind=kind, width=2 if kind == "densenet" else 1), SHAPE, CLASSES)
    random = np.random.default_rng(0)
    for variable in model.variables:
        name = variable.name.rpartition("/")[2]
        if "kernel" not in name:
            low, high = (-0.1, 0.1) if name.startswith(("bias", "beta", "moving_mean")) else (0.5, 1.5)
            variable.assign(random.uniform(low, high, variable.shape))
    return model


def silence(model: Any, kept: Any) -> None:
    """Have the channels that ``kept`` has not say nothing; scales and biases tell which they are."""
    for layer in model.layers:
        if layer.name in ("logits", "mask"):
            continue
        of_it = kept.get_layer(layer.name)
        if isinstance(layer, keras.layers.BatchNormalization):
            stays = np.isin(layer.gamma, of_it.gamma)
            gamma, beta, *statistics = layer.get_weights()
            layer.set_weights([gamma * stays, beta * stays, *statistics])
        elif getattr(layer, "use_bias", False):
            stays = np.isin(layer.bias, of_it.bias)
            layer.set_weights([weight * stays for weight in layer.get_weights()])


def answers(model: Any) -> list[Any]:
    found = model(images().astype(np.float32) / 128 - 1, training=False)
    return [np.asarray(one) for one in (found if isinstance(found, list) else [found])]


@pytest.mark.parametrize("kind", KINDS)
def test_without_channels_that_say_nothing_the_answers_stay(kind: str) -> None:
    model = network(kind)
    before = model.get_weights()
    small = narrow(model, 0.5, importance(model, images(8), "single-label", 0))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert small.count_params() < 0.6 * model.count_params()
    silence(model, small)
    for wanted, found in zip(answers(model), answers(small), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
        assert np.ptp(wanted) > 0


def test_what_says_nothing_has_no_importance_and_goes_first() -> None:
    model = network("cnn")
    norms = [model.get_layer(f"{name}_norm") for name in ("down1", "depthwise1", "pointwise1")]
    quiet = np.random.default_rng(2).permutation(64) < 32
    for norm in norms:
        gamma, beta, *statistics = norm.get_weights()
        norm.set_weights([np.where(quiet, 0, gamma), np.where(quiet, 0, beta), *statistics])
    scores = importance(model, images(), "single-label", 0)
    own = next(score for score in scores if len(score) == 64)
    assert (own[quiet] == 0).all() and (own > 0).sum() > 16
    kept = np.asarray(narrow(model, 0.5, scores).get_layer("down1_norm").gamma)
    assert len(kept) == 32 and np.isin(np.asarray(norms[0].gamma)[own > 0], kept).all()


def test_layers_keep_multiples_of_eight_and_the_answers_their_number() -> None:
    model = network("inverted residuals")
    small = narrow(model, 0.3, importance(model, images(8), "multi-label", 0))
    sizes = {layer.name: layer.output.shape[-1] for layer in small.layers}
    assert sizes["logits"] == CLASSES and sizes["image"] == 1
    assert all(size % 8 == 0 for name, size in sizes.items() if name not in ("logits", "image"))
    # What an addition ties together is still of one size.
    assert sizes["block1_project_norm"] == sizes["block2_add"] == 8
    assert sizes["block2_expand"] == sizes["block2_depthwise"] == 32


def test_a_narrowed_network_is_exported_with_all_its_outputs() -> None:
    model = network("cnn")
    small = narrow(model, 0.25, importance(model, images(8), "single-label", 0))
    spec, outputs = describe(to_int8(small, images()))
    assert (spec.scale, spec.zero_point) == (1 / 128, 0)
    shapes = {output.name: output.shape for output in outputs}
    assert shapes == {"logits": (1, CLASSES), "embedding": (1, 32), "cam": (1, 7, 7, CLASSES)}


def test_the_same_seed_finds_the_same_channels() -> None:
    model = network("unet")
    first, second = (importance(model, images(8), "single-label", 4) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_layer_that_channels_cannot_be_followed_through_is_named() -> None:
    image = keras.Input(SHAPE)
    x = keras.layers.Conv2D(16, 3, name="conv")(image)
    odd = keras.Model(image, keras.layers.Reshape((-1,), name="odd")(x))
    with pytest.raises(BadInputError, match=r"compression\.channels: .*'odd' \(Reshape\)"):
        narrow(odd, 0.5, [])
    twice = keras.layers.Conv2D(1, 3, padding="same", name="twice")
    with pytest.raises(BadInputError, match="'twice' is used 2 times"):
        narrow(keras.Model(image, twice(twice(image))), 0.5, [])
