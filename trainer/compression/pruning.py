"""Magnitude pruning: the smallest weights become zero, the rest learns to do without them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from trainer.backend import keras, tfmot
from trainer.history import Epoch
from trainer.learning import Lesson
from trainer.recipe import Compression
from trainer.training import Plan

__all__ = ["prune", "sparsity"]

RAMP_SHARE = 0.5
HEADS = ("logits", "mask")


def prune(model: Any, lesson: Lesson, plan: Plan, compression: Compression) -> tuple[Any, list[Epoch]]:
    """A pruned copy of a trained network, fine-tuned to give the answers of the plan's teacher.

    Sparsity rises along a polynomial over the first half of ``compression.pruning_epochs`` and stays (Zhu and
    Gupta 2017); only epochs at full sparsity may be kept. The first convolution, depthwise kernels and the
    heads are not pruned: they are small and tell on every answer. It compresses the transfer; it makes
    nothing faster.
    """
    epochs = compression.pruning_epochs
    steps = len(lesson.train.pixels) // min(plan.training.batch_size, len(lesson.train.pixels))
    ramp = max(1, round(RAMP_SHARE * epochs * steps))
    schedule = tfmot.sparsity.keras.PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=compression.sparsity,
        begin_step=0,
        end_step=ramp,
        frequency=max(1, ramp // 20),
    )

    prunable = {layer.name for layer in _prunable(model)}

    def wrapped(layer: Any) -> Any:
        if layer.name not in prunable:
            return layer
        return tfmot.sparsity.keras.prune_low_magnitude(layer, pruning_schedule=schedule)

    # A wrapper takes the layer itself, not a copy of it: what the wrapped network learns, ``pruned`` has.
    pruned = keras.models.clone_model(model)
    pruned.set_weights(model.get_weights())
    student = keras.models.clone_model(pruned, clone_function=wrapped)
    plan = replace(
        plan,
        epochs=epochs,
        learning_rate=compression.pruning_learning_rate,
        callbacks=(tfmot.sparsity.keras.UpdatePruningStep(),),
        eligible_from=min(epochs, -(-(ramp + steps) // steps)),
    )
    history = lesson.fit(f"Pruning {compression.sparsity:.0%} of the weights", student, plan)
    return pruned, history


def sparsity(model: Any) -> float:
    """Share of zeros among the weights that pruning may remove."""
    kernels = [np.asarray(layer.kernel) for layer in _prunable(model)]
    return float(sum((k == 0).sum() for k in kernels) / sum(k.size for k in kernels))


def _prunable(model: Any) -> list[Any]:
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    layers = [layer for layer in model.layers if isinstance(layer, kinds) and layer.name not in HEADS]
    first = next((layer for layer in layers if isinstance(layer, keras.layers.Conv2D)), None)
    return [layer for layer in layers if layer is not first]
