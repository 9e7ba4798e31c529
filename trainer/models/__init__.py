"""Networks, by the kind a recipe names.

A builder returns a Keras model from ``[n, height, width, channels]`` (``p / 128 - 1``) to logits
``[n, classes]``. Three of its layers are what :mod:`trainer.models.export` rests on: ``features`` (the last
feature map, 4-D), ``embedding`` (its global average) and ``logits`` (one Dense layer on that).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge.errors import BadInputError
from trainer.models.cnn import cnn
from trainer.models.densenet import densenet
from trainer.models.dnn import dnn
from trainer.models.efficientnet_lite import efficientnet_lite0
from trainer.models.mobilenet import mobilenet
from trainer.models.textbook import textbook
from trainer.models.unet import unet
from trainer.recipe import ModelSpec

__all__ = ["BUILDERS", "build"]

Builder = Callable[[ModelSpec, tuple[int, int, int], int], Any]

BUILDERS: dict[str, Builder] = {
    "cnn": cnn,
    "densenet": densenet,
    "dnn": dnn,
    "efficientnet-lite0": efficientnet_lite0,
    "mobilenet": mobilenet,
    "textbook": textbook,
    "unet": unet,
}
PUBLISHED = ("efficientnet-lite0",)


def build(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> Any:
    """The Keras model that ``spec`` asks for, for images ``shape`` (height, width, channels).

    It is untrained, or has the published weights where the recipe says so.

    Raises:
        BadInputError: there is no such kind, it has no published weights to start from or they cannot be
            read, or it does not take images of this shape.
    """
    if spec.kind not in BUILDERS:
        raise BadInputError(
            f"model.kind: unknown network '{spec.kind}'; known: {', '.join(sorted(BUILDERS))}"
        )
    if spec.pretrained is not None and spec.kind not in PUBLISHED:
        raise BadInputError(
            f"model.pretrained: the network '{spec.kind}' has no published weights; leave it out, "
            f"or take {' or '.join(PUBLISHED)}"
        )
    return BUILDERS[spec.kind](spec, shape, classes)
