"""What the networks are built of: convolutions that normalization and activation fold into, and the heads."""

from __future__ import annotations

import math
from typing import Any

from trainer.backend import keras
from trainer.recipe import ModelSpec

__all__ = [
    "classifier",
    "convolution",
    "depthwise",
    "halvings",
    "inverted_residual",
    "learned",
    "scaled_width",
]

# Small data sets give some hundred steps in all: the usual 0.99 would still remember the first of them.
NORM_MOMENTUM = 0.9


def convolution(
    x: Any, channels: int, *, kernel: int = 1, stride: int = 1, relu: bool = True, name: str
) -> Any:
    """A convolution, batch normalization and, unless linear, ReLU6: one int8 operator.

    Layers are called ``<name>_conv``, ``<name>_norm`` and ``<name>``.
    """
    layer = keras.layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")
    return _normalized(layer(x), relu, name)


def depthwise(x: Any, *, kernel: int = 3, stride: int = 1, name: str) -> Any:
    """A depthwise convolution, batch normalization and ReLU6, named as those of :func:`convolution`."""
    layer = keras.layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")
    return _normalized(layer(x), True, name)


def inverted_residual(x: Any, channels: int, *, expansion: int, kernel: int, stride: int, name: str) -> Any:
    """Widen, filter each channel, narrow without activation; add the input where the shape stays.

    Sandler et al. 2018 ("MobileNetV2"). Parts are called ``<name>_expand`` (left out where ``expansion`` is
    1), ``<name>_depthwise``, ``<name>_project`` and ``<name>_add``.
    """
    wide = x
    if expansion != 1:
        wide = convolution(x, expansion * x.shape[-1], name=f"{name}_expand")
    wide = depthwise(wide, kernel=kernel, stride=stride, name=f"{name}_depthwise")
    narrow = convolution(wide, channels, relu=False, name=f"{name}_project")
    if stride == 1 and x.shape[-1] == channels:
        return keras.layers.Add(name=f"{name}_add")([x, narrow])
    return narrow


def classifier(features: Any, dropout: float, classes: int) -> Any:
    """Logits ``[n, classes]``: one Dense layer on the global average, which is named ``embedding``."""
    x = keras.layers.GlobalAveragePooling2D(name="embedding")(features)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.layers.Dense(classes, name="logits")(x)


def halvings(shape: tuple[int, int, int], last_side: int) -> int:
    """How often to halve an image so that its shorter side comes to about ``last_side``; at least once."""
    return max(1, round(math.log2(min(shape[:2]) / last_side)))


def scaled_width(channels: int, spec: ModelSpec, multiple: int = 8) -> int:
    """``channels`` times the recipe's width, rounded to a ``multiple``, once at least."""
    return max(multiple, round(channels * spec.width / multiple) * multiple)


def learned(model: Any) -> list[Any]:
    """The variables of a network that training changes by their gradients.

    Behind a frozen convolution the scale and offset of its normalization stay with it, and only the
    statistics follow the images (Li et al. 2018, "Adaptive Batch Normalization"; ADR 50).
    """
    frozen = {v.name.partition("_conv/")[0] for v in model.non_trainable_variables if "kernel" in v.name}
    return [v for v in model.trainable_variables if v.name.partition("_norm/")[0] not in frozen]


def _normalized(x: Any, relu: bool, name: str) -> Any:
    x = keras.layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)
    return keras.layers.ReLU(6.0, name=name)(x) if relu else x
