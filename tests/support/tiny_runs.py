"""A training of each shipped recipe so small that it proves only that everything fits together."""

from __future__ import annotations

from functools import cache

from rich.console import Console

from trainer.pipeline import Result, train
from trainer.preparation import from_phantoms, prepare
from trainer.progress import Reporter
from trainer.recipe import load_recipe

__all__ = ["tiny_run"]

COUNTS = {"train": 20, "val": 10, "test": 10}
OUTLINES = {"train": 40, "val": 10, "test": 10}
OUTLINE_EPOCHS = 12
"""After fewer steps an outlining network gives every image the same embedding; others take one epoch."""


@cache
def tiny_run(name: str) -> Result:
    """What a training of the recipe ``name`` on a few phantoms makes; the same object when asked again."""
    recipe = load_recipe(name)
    # Pruning and quantization-aware training take as long again, and have tests of their own.
    compression = recipe.compression.model_copy(update={"sparsity": 0.0, "method": "post-training"})
    recipe = recipe.model_copy(update={"compression": compression})
    reporter = Reporter(Console(quiet=True))
    outlines = recipe.task == "segmentation"
    dataset = from_phantoms(recipe, seed=0, counts=OUTLINES if outlines else COUNTS)
    epochs = OUTLINE_EPOCHS if outlines else 1
    return train(prepare(recipe, dataset, 0, reporter, epochs=epochs, generated=True), 0, reporter)
