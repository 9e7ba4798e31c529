"""A compact DenseNet, in the order that quantization-aware training takes."""

from __future__ import annotations

from typing import Any

from trainer.backend import keras
from trainer.models.blocks import classifier, convolution, halvings, scaled_width
from trainer.recipe import ModelSpec

__all__ = ["densenet"]

LAST_SIDE = 8
LAYERS = (3, 4, 6, 4)  # of each stage; small images skip the first stages
GROWTH = 16
BOTTLENECK = 2
COMPRESSION = 0.5
LARGE_HALVINGS = 5


def densenet(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> Any:
    """DenseNet (Huang et al. 2017) with growth ``16 * width``, each layer seeing all before it in its stage.

    A layer is a 1x1 and a 3x3 convolution, each followed by batch normalization and ReLU6. The paper
    normalizes before it convolves; that order folds into nothing, costs int8 a requantization of every map
    and is refused by quantization-aware training. Stages are parted by a 1x1 convolution to half the channels
    and an average over 2x2; the last keeps a shorter side of about 8.
    """
    growth = scaled_width(GROWTH, spec, multiple=4)
    wanted = halvings(shape, LAST_SIDE)
    stages = LAYERS[-min(wanted + 1, len(LAYERS) if wanted >= LARGE_HALVINGS else len(LAYERS) - 1) :]
    # Full resolution costs most and tells least: what the stages do not halve, the stem and pooling do.
    before = wanted - (len(stages) - 1)
    image = keras.Input(shape, name="image")
    x = convolution(image, 2 * growth, kernel=3, stride=2 if before else 1, name="stem")
    for number in range(1, before):
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"stem_pool{number}")(x)
    for stage, layers in enumerate(stages):
        for layer in range(layers):
            name = f"stage{stage}_layer{layer}"
            new = convolution(x, BOTTLENECK * growth, name=f"{name}_narrow")
            new = convolution(new, growth, kernel=3, name=name)
            last = stage == len(stages) - 1 and layer == layers - 1
            x = keras.layers.Concatenate(name="features" if last else f"{name}_join")([x, new])
        if stage < len(stages) - 1:
            x = convolution(x, round(COMPRESSION * x.shape[-1] / 8) * 8, name=f"transition{stage}")
            x = keras.layers.AveragePooling2D(2, padding="same", name=f"transition{stage}_pool")(x)
    return keras.Model(image, classifier(x, spec.dropout, classes), name="densenet")
