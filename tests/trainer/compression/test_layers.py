"""The layer that quantization ruins is the one that is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from trainer.backend import keras
from trainer.compression.quantization import to_float, to_int8
from trainer.evaluation.layers import layer_errors
from trainer.models import build
from trainer.recipe import ModelSpec

pytestmark = pytest.mark.slow


def images() -> Any:
    return np.random.default_rng(1).integers(0, 256, (24, 28, 28, 1)).astype(np.uint8)


def network() -> Any:
    keras.utils.set_random_seed(0)
    return build(ModelSpec(kind="cnn"), (28, 28, 1), 2)


def test_every_layer_is_compared_and_a_sound_network_strays_little() -> None:
    model = network()
    found = layer_errors(to_float(model), to_int8(model, images()), images())
    assert {"stem", "down1", "depthwise1", "pointwise1", "add1", "features", "logits", "cam"} <= {
        one.layer for one in found
    }
    assert [one.added for one in found] == sorted((one.added for one in found), reverse=True)
    assert all(0 <= one.added <= one.error < 0.2 for one in found)
    assert any(one.error > 0 for one in found)


def test_a_layer_with_a_channel_out_of_scale_is_named_first() -> None:
    model = network()
    norm = model.get_layer("pointwise1_norm")
    gamma, *others = norm.get_weights()
    # One channel of a linear layer a thousand times the others: int8 has no steps left for those. The next
    # layer makes up for it, so the float network is as good as before.
    norm.set_weights([np.where(np.arange(len(gamma)) == 3, 1000 * gamma, gamma), *others])
    relu = model.get_layer("pointwise1")
    relu.max_value = None
    model = keras.models.clone_model(model)  # the graph with the activation that does not clip
    keras.utils.set_random_seed(0)
    sound = network()
    for layer, other in zip(model.layers, sound.layers, strict=True):
        layer.set_weights(other.get_weights())
    model.get_layer("pointwise1_norm").set_weights(norm.get_weights())
    found = layer_errors(to_float(model), to_int8(model, images()), images())
    assert found[0].layer in ("pointwise1", "add1")
    assert found[0].added > 0.1 > found[3].added
