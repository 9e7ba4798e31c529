"""MobileNetV2: inverted residuals, for images of any size and at any width."""

from __future__ import annotations

from typing import Any

from trainer.backend import keras
from trainer.models.blocks import classifier, convolution, halvings, inverted_residual, scaled_width
from trainer.recipe import ModelSpec

__all__ = ["mobilenet"]

LAST_SIDE = 7
# Expansion, channels, blocks, whether the first block halves (Sandler et al. 2018, table 2).
STAGES = (
    (1, 16, 1, False),
    (6, 24, 2, True),
    (6, 32, 3, True),
    (6, 64, 4, True),
    (6, 96, 3, False),
    (6, 160, 3, True),
    (6, 320, 1, False),
)
HEAD_CHANNELS = 1280
LARGE_HALVINGS = 3


def mobilenet(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> Any:
    """MobileNetV2 (Sandler et al. 2018), usual widths 0.35 to 1.

    It was drawn for sides of 224 pixels; of its five halvings a smaller image keeps as many as bring its
    shorter side to about 7, the later ones, and from three on the stem's. The last convolution scales with
    the width too: 1280 channels are for a thousand classes.
    """
    wanted = halvings(shape, LAST_SIDE)
    stem_halves = wanted >= LARGE_HALVINGS
    places = [number for number, stage in enumerate(STAGES) if stage[3]]
    halving = places[-min(wanted - stem_halves, len(places)) :]
    image = keras.Input(shape, name="image")
    stride = 2 if stem_halves else 1
    x = convolution(image, scaled_width(32, spec), kernel=3, stride=stride, name="stem")
    for number, (expansion, channels, blocks, _) in enumerate(STAGES):
        for block in range(blocks):
            x = inverted_residual(
                x,
                scaled_width(channels, spec),
                expansion=expansion,
                kernel=3,
                stride=2 if number in halving and block == 0 else 1,
                name=f"stage{number}_block{block}",
            )
    features = convolution(x, scaled_width(HEAD_CHANNELS, spec), name="features")
    return keras.Model(image, classifier(features, spec.dropout, classes), name="mobilenet")
