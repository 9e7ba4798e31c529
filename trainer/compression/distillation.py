"""How a smaller copy of a network learns: from the network's own answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trainer.training import Plan

__all__ = ["student_plan"]


def student_plan(
    plan: Plan,
    teacher: Any,
    *,
    stage: str,
    epochs: int,
    learning_rate: float,
    callbacks: tuple[Any, ...] = (),
    eligible_from: int = 1,
) -> Plan:
    """The plan of the float training, turned to giving the answers of ``teacher`` (Hinton et al. 2015).

    What is wanted of compression is the same network in less; on few images the labels would pull it
    elsewhere. The teacher's answers carry class weights, mixing and smoothing already.
    """
    own = {"class_weights": False, "mixup": 0.0, "label_smoothing": 0.0}
    return replace(
        plan,
        stage=stage,
        training=plan.training.model_copy(update=own),
        epochs=epochs,
        learning_rate=learning_rate,
        teacher=teacher,
        label_share=0.0,
        head_epochs=0,
        checkpoint=None,
        callbacks=callbacks,
        eligible_from=eligible_from,
    )
