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
from trainer.models.blocks import classifier, convolution
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
    assert all(0 <= one.added <= one.error < 1 for one in found)
    stem = next(one for one in found if one.layer == "stem")
    assert 0 < stem.added == stem.error < 0.1


def test_a_layer_with_a_channel_out_of_scale_is_named_first() -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input((28, 28, 1), name="image")
    x = convolution(image, 16, kernel=3, stride=2, name="stem")
    x = convolution(x, 16, relu=False, name="ruined")
    x = convolution(x, 16, name="features")
    model = keras.Model(image, classifier(x, 0.0, 2))
    # One channel a thousand times the others: int8 has no steps left for those. The next layer makes up for
    # it, so the float network is what it was.
    norm, after = model.get_layer("ruined_norm"), model.get_layer("features_conv")
    scale = np.where(np.arange(16) == 3, 1000.0, 1.0)
    gamma, *others = norm.get_weights()
    norm.set_weights([gamma * scale, *others])
    after.set_weights([after.get_weights()[0] / scale[:, np.newaxis]])
    found = layer_errors(to_float(model), to_int8(model, images()), images())
    assert found[0].layer == "ruined_conv"
    assert found[0].added > 0.9
