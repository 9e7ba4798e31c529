"""The stages of compression in their order: fewer channels, fewer weights, weights that bear rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from trainer.compression.channels import importance, narrow
from trainer.compression.pruning import prune
from trainer.compression.qat import quantization_aware
from trainer.history import Epoch
from trainer.learning import Lesson
from trainer.recipe import Compression
from trainer.training import Plan

__all__ = ["Compressor"]

Made = tuple[Any, list[Epoch]]


class Compressor:
    """Compresses a trained network; what one call has made, the next starts from.

    The network itself, which is never changed, teaches every stage (Hinton et al. 2015): what is wanted is
    the same network in less, and on few images the labels would pull it elsewhere.

    Args:
        model: the trained float network.
        lesson: its training.
    """

    def __init__(self, model: Any, lesson: Lesson) -> None:
        self.model, self.lesson = model, lesson
        self._made: dict[str, Made] = {}

    def compress(self, compression: Compression) -> Made:
        """The network that ``compression`` asks for, to be converted, with the epochs of all its stages.

        It is the trained network itself where nothing is asked for that changes weights.
        """
        network, epochs = self.model, list[Epoch]()
        for stage in self._stages(compression):
            if stage.key not in self._made:
                self._made[stage.key] = stage.make(network, self.lesson, self._plan(stage), compression)
            network, own = self._made[stage.key]
            epochs += own
        return network, epochs

    def epochs_to_go(self, compression: Compression) -> int:
        """Epochs that :meth:`compress` would train now."""
        return sum(stage.epochs for stage in self._stages(compression) if stage.key not in self._made)

    def narrowed(self, keep: float) -> Any:
        """The network with the share ``keep`` of its channels, before it learns to do without the rest."""
        return narrow(self.model, keep, self._importance) if keep < 1 else self.model

    @cached_property
    def _importance(self) -> Any:
        lesson = self.lesson
        return importance(self.model, lesson.train.pixels, lesson.prepared.recipe.task, lesson.seed)

    def _narrow(self, _: Any, lesson: Lesson, plan: Plan, compression: Compression) -> Made:
        network = self.narrowed(compression.channels)
        plan = replace(
            plan, epochs=compression.channel_epochs, learning_rate=compression.channel_learning_rate
        )
        return network, lesson.fit(
            f"Learning with {100 * compression.channels:g}% of the channels", network, plan
        )

    def _plan(self, stage: _Stage) -> Plan:
        # The teacher's answers carry class weights, mixing and smoothing already.
        own = {"class_weights": False, "mixup": 0.0, "label_smoothing": 0.0}
        plan = self.lesson.plan(stage.key, teacher=self.model, head_epochs=0)
        return replace(plan, stage=stage.name, training=plan.training.model_copy(update=own))

    def _stages(self, compression: Compression) -> list[_Stage]:
        wanted: list[tuple[str, object, int, Callable[..., Made]]] = []
        if compression.channels < 1:
            wanted.append(("channels", compression.channels, compression.channel_epochs, self._narrow))
        if compression.sparsity and compression.pruning_epochs:
            wanted.append(("pruning", compression.sparsity, compression.pruning_epochs, prune))
        if compression.method == "quantization-aware":
            wanted.append(("quantization", "", compression.quantization_epochs, quantization_aware))
        stages: list[_Stage] = []
        for name, setting, epochs, make in wanted:
            before = [stages[-1].key] if stages else []
            stages.append(_Stage("-".join([*before, f"{name}{setting}"]), name, epochs, make))
        return stages


@dataclass(frozen=True)
class _Stage:
    """One stage; ``key`` tells it, with all before it, from others."""

    key: str
    name: str
    epochs: int
    make: Callable[[Any, Lesson, Plan, Compression], Made]
