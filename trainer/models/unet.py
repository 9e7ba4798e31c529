"""A small U-Net: a mask of the image's size, and logits of the whole image."""

from __future__ import annotations

from typing import Any

from edge.errors import BadInputError
from trainer.backend import keras
from trainer.models.blocks import classifier, convolution, depthwise, scaled_width
from trainer.recipe import ModelSpec

__all__ = ["unet"]

FIRST_CHANNELS = 16
MOST_HALVINGS = 4
LEAST_SIDE = 7


def unet(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> Any:
    """U-Net (Ronneberger et al. 2015) of depthwise-separable convolutions, same padding.

    Each of up to four levels halves the image, while both sides stay even and at least 7, and doubles the
    channels from ``16 * width``; on the way back a nearest-neighbour doubling and a concatenation bring the
    detail in again. The model gives ``[logits [n, classes], mask [n, height, width, classes]]``, both logits:
    the mask's of each pixel, the others of the image as a whole, from the coarsest map (``features``).

    Raises:
        BadInputError: a side is odd, so that not even one halving can be undone.
    """
    levels = _levels(shape)
    widths = [scaled_width(FIRST_CHANNELS << level, spec) for level in range(levels + 1)]
    image = keras.Input(shape, name="image")
    x = convolution(image, widths[0], kernel=3, name="stem")
    x = _separable(x, widths[0], name="encode0")
    passed = []
    for level in range(1, levels + 1):
        passed.append(x)
        x = keras.layers.MaxPooling2D(2, name=f"down{level}")(x)
        x = _separable(x, widths[level], name=f"encode{level}_first")
        x = _separable(x, widths[level], name="features" if level == levels else f"encode{level}")
    logits = classifier(x, spec.dropout, classes)
    for level in reversed(range(levels)):
        # Narrowed before it is doubled: a fourth of the work for the same map.
        x = convolution(x, widths[level], name=f"narrow{level}")
        x = keras.layers.UpSampling2D(2, name=f"up{level}")(x)
        x = keras.layers.Concatenate(name=f"join{level}")([passed[level], x])
        x = _separable(x, widths[level], name=f"decode{level}")
    mask = keras.layers.Conv2D(classes, 1, name="mask")(x)
    return keras.Model(image, [logits, mask], name="unet")


def _levels(shape: tuple[int, int, int]) -> int:
    levels = 0
    while levels < MOST_HALVINGS and all(
        side % (2 << levels) == 0 and side >> (levels + 1) >= LEAST_SIDE for side in shape[:2]
    ):
        levels += 1
    if not levels:
        raise BadInputError(
            f"input: the network 'unet' needs even sides of at least {2 * LEAST_SIDE} pixels, "
            f"not {shape[0]} x {shape[1]}; multiples of 16 suit it best"
        )
    return levels


def _separable(x: Any, channels: int, name: str) -> Any:
    return convolution(depthwise(x, name=f"{name}_depthwise"), channels, name=name)
