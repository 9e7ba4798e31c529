"""A plain fully connected network, for small images and as the yardstick of what convolutions bring."""

from __future__ import annotations

from typing import Any

from trainer.backend import keras
from trainer.models.blocks import scaled_width
from trainer.recipe import ModelSpec

__all__ = ["dnn"]

LARGEST_SIDE = 32
HIDDEN = (128, 64)


def dnn(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> Any:
    """Hidden layers of ``128 * width`` and ``64 * width`` units with ReLU on the image's pixels.

    An image with a side over 32 pixels is first averaged over squares of pixels, as otherwise the first
    layer's weights would outnumber any training set. The embedding is the last hidden layer; there is no
    feature map, hence no class activation map.
    """
    image = keras.Input(shape, name="image")
    x = image
    square = -(-max(shape[:2]) // LARGEST_SIDE)
    if square > 1:
        x = keras.layers.AveragePooling2D(square, padding="same", name="shrink")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for units, name in zip(HIDDEN, ("hidden", "embedding"), strict=True):
        x = keras.layers.Dense(
            scaled_width(units, spec), activation="relu", kernel_initializer="he_uniform", name=name
        )(x)
        x = keras.layers.Dropout(spec.dropout, name=f"{name}_dropout")(x)
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(x), name="dnn")
