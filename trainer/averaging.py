"""Averaging a network's weights over the steps of its training."""

from __future__ import annotations

from typing import Any

from trainer.backend import tf
from trainer.models.blocks import learned

__all__ = ["MovingAverage"]


class MovingAverage:
    """Exponential moving average of what a model has learned; inside ``with`` the model has it.

    The statistics of batch normalization belong to the weights they were taken with, so they are averaged
    too: averaged weights under the last few batches' statistics give results that jump from epoch to epoch.
    """

    def __init__(self, model: Any, decay: float) -> None:
        statistics = [v for v in model.variables if "/moving_" in v.name]
        self.variables = [*learned(model), *statistics] if decay else []
        self.shadows = [tf.Variable(v, trainable=False) for v in self.variables]
        self.decay = decay
        self.updates = 0
        self.update_shadows = tf.function(self._update_shadows, autograph=False)

    def update(self) -> None:
        """Take the weights after a step in; early on with less memory, so that the start is forgotten."""
        if self.variables:
            self.updates += 1
            self.update_shadows(
                tf.constant(min(self.decay, self.updates / (self.updates + 10.0)), tf.float32)
            )

    def _update_shadows(self, decay: Any) -> None:
        for shadow, variable in zip(self.shadows, self.variables, strict=True):
            shadow.assign(decay * shadow + (1.0 - decay) * variable)

    def __enter__(self) -> None:
        # What pruning has set to nothing stays nothing, whatever it was earlier.
        for shadow, variable in zip(self.shadows, self.variables, strict=True):
            shadow.assign(tf.where(variable == 0.0, 0.0, shadow))
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    def _swap(self) -> None:
        for shadow, variable in zip(self.shadows, self.variables, strict=True):
            kept = variable.numpy()
            variable.assign(shadow)
            shadow.assign(kept)
