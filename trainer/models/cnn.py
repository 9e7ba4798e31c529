"""The small CNN: about 110,000 parameters, from operators that int8 keeps well."""

from __future__ import annotations

from typing import Any

from trainer.backend import keras
from trainer.models.blocks import classifier, convolution, depthwise, halvings, scaled_width
from trainer.recipe import ModelSpec

__all__ = ["cnn"]

LAST_SIDE = 8
LAST_CHANNELS = 128
FEWEST_CHANNELS = 16


def cnn(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> Any:
    """A stem, then one stage for each halving until the shorter side is about 8 pixels.

    A stage halves by a 3x3 convolution and adds a depthwise-separable residual; channels double towards
    ``128 * width`` at the last. Every convolution is followed by batch normalization and ReLU6, which both
    fold into it in int8 (Howard et al. 2017, Sandler et al. 2018).
    """
    levels = halvings(shape, LAST_SIDE)
    channels = [_channels(levels - level, spec) for level in range(levels + 1)]
    # Large images are halved by the stem already: full resolution costs most and tells least.
    stem_stride = 2 if levels >= 3 else 1
    image = keras.Input(shape, name="image")
    x = convolution(image, channels[stem_stride - 1], kernel=3, stride=stem_stride, name="stem")
    for level in range(stem_stride, levels + 1):
        x = convolution(x, channels[level], kernel=3, stride=2, name=f"down{level}")
        residual = depthwise(x, name=f"depthwise{level}")
        residual = convolution(residual, channels[level], name=f"pointwise{level}")
        x = keras.layers.Add(name="features" if level == levels else f"add{level}")([x, residual])
    return keras.Model(image, classifier(x, spec.dropout, classes), name="cnn")


def _channels(levels_to_last: int, spec: ModelSpec) -> int:
    return scaled_width(max(FEWEST_CHANNELS, LAST_CHANNELS >> levels_to_last), spec)
