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
from trainer.recipe import ModelSpec

pytestmark = pytest.mark.slow
SHAPE = (28, 28, 1)
CLASSES = 3
WIDTHS = {
    "cnn": 1,
    "densenet": 2,
    "dnn": 1,
    "efficientnet-lite0": 0.35,
    "mobilenet": 0.5,
    "textbook": 1,
    "unet": 1,
}


def images(n: int = 16, shape: tuple[int, int, int] = SHAPE) -> Any:
    return np.random.default_rng(1).integers(0, 256, (n, *shape)).astype(np.uint8)


def network(kind: str) -> Any:
    """Untrained, with statistics and scales that are not all alike."""
    keras.utils.set_random_seed(0)
    model = build(ModelSpec(kind=kind, width=WIDTHS[kind]), SHAPE, CLASSES)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def silence(model: Any, sizes: dict[str, int]) -> None:
    """Have all but the first ``sizes[layer]`` channels of each layer say nothing."""
    for layer in model.layers:
        if layer.name in ("logits", "mask") or not layer.weights:
            continue
        size = sizes[layer.name]
        for variable in layer.weights:
            if "moving_" in variable.name or "depthwise" in variable.name.rpartition("/")[2]:
                continue
            array = np.array(variable)
            array[..., size:] = 0
            variable.assign(array)


def answers(model: Any) -> list[Any]:
    found = model(images().astype(np.float32) / 128 - 1, training=False)
    return [np.asarray(one) for one in (found if isinstance(found, list) else [found])]


@pytest.mark.parametrize("kind", sorted(WIDTHS))
def test_without_channels_that_say_nothing_the_answers_stay(kind: str) -> None:
    model = network(kind)
    before = model.get_weights()
    first_are_best = [
        -np.arange(len(own), dtype=float) for own in importance(model, images(8), "single-label", 0)
    ]
    small = narrow(model, 0.5, first_are_best)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert small.count_params() < 0.6 * model.count_params()
    sizes = {layer.name: layer.output.shape[-1] for layer in small.layers}
    silence(model, sizes)
    # Taken again from the silenced network: its own weights are the same but for those that were removed.
    small = narrow(model, 0.5, first_are_best)
    for wanted, found in zip(answers(model), answers(small), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
        assert np.ptp(wanted) > 0


def test_what_says_nothing_has_no_importance_and_goes_first() -> None:
    model = network("cnn")
    quiet = np.zeros(64, bool)
    quiet[np.random.default_rng(2).permutation(64)[:32]] = True
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and layer.gamma.shape[0] == 64:
            layer.set_weights(
                [np.where(quiet, 0, w) for w in layer.get_weights()[:2]] + layer.get_weights()[2:]
            )
    scores = importance(model, images(), "single-label", 0)
    own = next(score for score in scores if len(score) == 64)
    assert np.array_equal(own == 0, quiet)
    before = answers(model)
    only_these = [score if len(score) == 64 else np.ones(len(score)) for score in scores]
    kept = narrow(model, 0.5, only_these).get_layer("down1_norm").get_weights()[0]
    assert len(kept) == 32 and (kept != 0).all()
    assert np.ptp(before[0]) > 0


def test_layers_keep_multiples_of_eight_and_the_answers_their_number() -> None:
    model = network("mobilenet")
    small = narrow(model, 0.3, importance(model, images(8), "multi-label", 0))
    sizes = {layer.name: layer.output.shape[-1] for layer in small.layers}
    assert sizes["logits"] == CLASSES and sizes["image"] == 1
    assert all(size % 8 == 0 for name, size in sizes.items() if name not in ("logits", "image"))
    # What an addition ties together is still of one size.
    assert sizes["stage1_block0_project_norm"] == sizes["stage1_block1_add"]


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
