"""The stages of compression in their order: fewer channels, fewer weights, weights that bear rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from trainer.compression.channels import importance, narrow
from trainer.compression.distillation import student_plan
from trainer.compression.pruning import prune
from trainer.compression.qat import quantization_aware
from trainer.history import Epoch
from trainer.progress import Reporter
from trainer.recipe import Compression
from trainer.training import Images, Plan, fit

__all__ = ["Compressor"]

OnEpoch = Callable[[Epoch], None]
Made = tuple[Any, list[Epoch]]


class Compressor:
    """Compresses a trained network, which teaches every stage; what one call has made, the next starts from.

    Args:
        model: the trained float network; it is never changed.
        train: what the stages learn from.
        tune: what chooses their epochs.
        plan: of the float training.
        reporter: shows a bar for each stage.
        words: an epoch's figures for the bar.
    """

    def __init__(
        self,
        model: Any,
        train: Images,
        tune: Images,
        plan: Plan,
        reporter: Reporter,
        words: Callable[[Epoch], str],
    ) -> None:
        self.model = model
        self.train = train
        self.tune = tune
        self.plan = plan
        self.reporter = reporter
        self.words = words
        self._made: dict[tuple[object, ...], Made] = {}

    def compress(self, compression: Compression) -> Made:
        """The network that ``compression`` asks for, to be converted, with the epochs of all its stages.

        It is the trained network itself where nothing is asked for that changes weights.
        """
        network, epochs = self.model, list[Epoch]()
        for stage in self._stages(compression):
            if stage.key not in self._made:
                with self.reporter.epochs(stage.title, stage.epochs) as bar:
                    self._made[stage.key] = stage.make(network, _teller(bar, self.words))
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
        return importance(self.model, self.train.pixels, self.plan.task, self.plan.seed)

    def _stages(self, compression: Compression) -> list[_Stage]:
        stages: list[_Stage] = []

        def add(key: object, title: str, epochs: int, make: Callable[[Any, OnEpoch], Made]) -> None:
            before = stages[-1].key if stages else ()
            stages.append(_Stage((*before, key), title, epochs, make))

        common = (self.model, self.train, self.tune, self.plan, compression)
        if compression.channels < 1:
            title = f"Learning with {compression.channels:.0%} of the channels"
            add(compression.channels, title, compression.channel_epochs, partial(self._narrow, compression))
        if compression.sparsity and compression.pruning_epochs:
            add(
                ("sparsity", compression.sparsity),
                f"Pruning {compression.sparsity:.0%} of the weights",
                compression.pruning_epochs,
                lambda network, on_epoch: prune(network, *common, on_epoch),
            )
        if compression.method == "quantization-aware":
            add(
                compression.method,
                "Learning to bear int8",
                compression.quantization_epochs,
                lambda network, on_epoch: quantization_aware(network, *common, on_epoch),
            )
        return stages

    def _narrow(self, compression: Compression, _: Any, on_epoch: OnEpoch) -> Made:
        network = self.narrowed(compression.channels)
        plan = student_plan(
            self.plan,
            self.model,
            stage="channels",
            epochs=compression.channel_epochs,
            learning_rate=compression.channel_learning_rate,
        )
        return network, fit(network, self.train, self.tune, plan, on_epoch)


@dataclass(frozen=True)
class _Stage:
    """One stage: ``key`` has the settings of all up to it, ``make`` trains it from the network before."""

    key: tuple[object, ...]
    title: str
    epochs: int
    make: Callable[[Any, OnEpoch], Made]


def _teller(bar: Callable[[int, str], None], words: Callable[[Epoch], str]) -> OnEpoch:
    return lambda epoch: bar(epoch.epoch, words(epoch))
