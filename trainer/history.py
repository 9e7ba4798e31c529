"""What a training was like, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Epoch"]


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to. ``tune_`` is on images that the weights never saw, without augmentation.

    ``dice`` is of the masks, in a segmentation; loss then is that of the labels plus that of the masks.
    """

    stage: str
    epoch: int
    loss: float
    accuracy: float
    tune_loss: float
    tune_accuracy: float
    tune_auroc: float | None
    learning_rate: float
    seconds: float
    dice: float | None = None
    tune_dice: float | None = None
