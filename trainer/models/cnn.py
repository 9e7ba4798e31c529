"""The small CNN: about 110,000 parameters, from operators that int8 keeps well."""

from __future__ import annotations

import math
from typing import Any

from edge.errors import BadInputError
from trainer.backend import keras
from trainer.recipe import ModelSpec

__all__ = ["cnn"]

LAST_SIDE = 8
LAST_CHANNELS = 128
FEWEST_CHANNELS = 16
# Small data sets give some hundred steps in all: the usual 0.99 would still remember the first of them.
NORM_MOMENTUM = 0.9


def cnn(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> Any:
    """A stem, then one stage for each halving until the shorter side is about 8 pixels.

    A stage halves by a 3x3 convolution and adds a depthwise-separable residual; channels double towards
    ``128 * width`` at the last. Every convolution is followed by batch normalization and ReLU6, which both
    fold into it in int8 (Howard et al. 2017, Sandler et al. 2018).

    Raises:
        BadInputError: published weights were asked for; this network has none.
    """
    if spec.pretrained is not None:
        raise BadInputError("model.pretrained: the network 'cnn' has no published weights; leave it out")
    halvings = max(1, round(math.log2(min(shape[:2]) / LAST_SIDE)))
    channels = [_channels(halvings - level, spec.width) for level in range(halvings + 1)]
    # Large images are halved by the stem already: full resolution costs most and tells least.
    stem_stride = 2 if halvings >= 3 else 1
    image = keras.Input(shape, name="image")
    x = _convolution(image, channels[stem_stride - 1], kernel=3, stride=stem_stride, name="stem")
    for level in range(stem_stride, halvings + 1):
        x = _convolution(x, channels[level], kernel=3, stride=2, name=f"down{level}")
        residual = _depthwise(x, name=f"depthwise{level}")
        residual = _convolution(residual, channels[level], kernel=1, stride=1, name=f"pointwise{level}")
        x = keras.layers.Add(name="features" if level == halvings else f"add{level}")([x, residual])
    x = keras.layers.GlobalAveragePooling2D(name="embedding")(x)
    x = keras.layers.Dropout(spec.dropout, name="dropout")(x)
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(x), name="cnn")


def _channels(levels_to_last: int, width: float) -> int:
    wanted = max(FEWEST_CHANNELS, LAST_CHANNELS >> levels_to_last) * width
    return max(8, round(wanted / 8) * 8)


def _convolution(x: Any, channels: int, *, kernel: int, stride: int, name: str) -> Any:
    layer = keras.layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=name)
    return _normalized(layer(x), name)


def _depthwise(x: Any, name: str) -> Any:
    return _normalized(keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=name)(x), name)


def _normalized(x: Any, name: str) -> Any:
    x = keras.layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x)
