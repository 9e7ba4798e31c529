"""The classic network of the first lesson on image classification, with logits."""

from __future__ import annotations

from typing import Any

from trainer.backend import keras
from trainer.models.blocks import scaled_width
from trainer.recipe import ModelSpec

__all__ = ["textbook"]


def textbook(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> Any:
    """A 3x3 convolution with ``32 * width`` filters, 2x2 max pooling, a dense layer of 64 and the output.

    The lesson feeds it 64x64 colour images, scales them by 1/255 and ends in one sigmoid trained with binary
    cross-entropy. Here pixels enter as ``p / 128 - 1``, which the first layer's weights make up for. There is
    one logit a class: softmax over two logits is the sigmoid of their difference, so two classes give the
    same family of functions, the same loss and the ``logits[1, 2]`` that every bundle has. The embedding is
    the dense layer of 64; between the feature map and the logits lies more than an average, hence no class
    activation map.
    """
    image = keras.Input(shape, name="image")
    x = keras.layers.Conv2D(scaled_width(32, spec), 3, activation="relu", name="conv")(image)
    x = keras.layers.MaxPooling2D(2, name="pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(scaled_width(64, spec), activation="relu", name="embedding")(x)
    x = keras.layers.Dropout(spec.dropout, name="dropout")(x)
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(x), name="textbook")
