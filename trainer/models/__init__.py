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
from trainer.recipe import ModelSpec

__all__ = ["BUILDERS", "build"]

Builder = Callable[[ModelSpec, tuple[int, int, int], int], Any]

BUILDERS: dict[str, Builder] = {"cnn": cnn}


def build(spec: ModelSpec, shape: tuple[int, int, int], classes: int) -> Any:
    """The untrained Keras model that ``spec`` asks for, for images ``shape`` (height, width, channels).

    Raises:
        BadInputError: there is no such kind, or it has no published weights to start from.
    """
    if spec.kind not in BUILDERS:
        raise BadInputError(
            f"model.kind: unknown network '{spec.kind}'; known: {', '.join(sorted(BUILDERS))}"
        )
    return BUILDERS[spec.kind](spec, shape, classes)
