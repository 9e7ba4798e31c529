"""Quantization-aware training: the network learns with its weights and activations rounded to int8."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trainer.backend import keras, tf, tfmot
from trainer.compression.pruning import sparsity
from trainer.history import Epoch
from trainer.learning import Lesson
from trainer.recipe import Compression
from trainer.training import Plan

__all__ = ["quantization_aware"]

BLACK, WHITE = -1.0, 127 / 128
"""What the pixels 0 and 255 are as ``p / 128 - 1``."""


def quantization_aware(
    model: Any, lesson: Lesson, plan: Plan, compression: Compression
) -> tuple[Any, list[Epoch]]:
    """A copy of ``model`` whose weights have learned to give the plan's teacher's answers after rounding.

    Forward passes round as int8 does and gradients pass straight through (Jacob et al. 2018). What is pruned
    stays pruned. The copy is a plain network again: it is converted by
    :func:`trainer.compression.quantization.to_int8` as any other is, with all its outputs and with the exact
    input scale (ADR 15).
    """
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    combine = tfmot.experimental.combine
    pruned = sparsity(model) > 0
    scheme = combine.Default8BitPrunePreserveQuantizeScheme() if pruned else None
    annotated = tfmot.quantization.keras.quantize_annotate_model(copy)
    with tfmot.quantization.keras.quantize_scope():
        student = tfmot.quantization.keras.quantize_apply(annotated, *([scheme] if scheme else []))
    _fix_input(student)
    plan = replace(
        plan,
        epochs=compression.quantization_epochs,
        learning_rate=compression.quantization_learning_rate,
    )
    history = lesson.fit("Learning to bear int8", student, plan)
    # The wrappers hold the weights under the names that they had.
    learned = {variable.name: variable for variable in student.weights}
    for variable in copy.weights:
        zero = (variable == 0.0) & (pruned and "kernel" in variable.name)
        variable.assign(tf.where(zero, 0.0, learned[variable.name]))
    return copy, history


def _fix_input(student: Any) -> None:
    """Give the input the range that makes its int8 value ``pixel - 128``, and let no batch move it."""
    # Keras numbers the names of unnamed layers within a process.
    layer = next(one for one in student.layers if one.name.startswith("quantize_layer"))
    for variable in layer.weights:
        if variable.name.endswith("_min:0"):
            variable.assign(BLACK)
        if variable.name.endswith("_max:0"):
            variable.assign(WHITE)
