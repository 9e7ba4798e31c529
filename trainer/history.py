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

    @property
    def words(self) -> str:
        """The figures, for a line of progress."""
        auroc = "" if self.tune_auroc is None else f"  AUROC {self.tune_auroc:.3f}"
        answers = f"accuracy {self.tune_accuracy:.3f}{auroc}"
        if self.tune_dice is not None:
            answers = f"Dice {self.tune_dice:.3f}"
        tuning = f"loss {self.tune_loss:.3f}  {answers}"
        return f"loss {self.loss:.3f}  tuning: {tuning}"
