"""A training of each shipped recipe so small that it proves only that everything fits together."""

from __future__ import annotations

import fcntl
from pathlib import Path

from rich.console import Console

from trainer.pipeline import Result, train
from trainer.preparation import from_phantoms, prepare
from trainer.progress import Reporter
from trainer.recipe import ModelSpec, load_recipe
from trainer.run import write_run

__all__ = ["tiny_run"]

COUNTS = {"train": 20, "val": 10, "test": 10}
OUTLINES = {"train": 40, "val": 10, "test": 10}
OUTLINE_EPOCHS = 12
"""After fewer steps an outlining network gives every image the same embedding; others take one epoch."""
WHOLE = "chest-xray"
"""The recipe whose EfficientNet-Lite0 is trained with all its blocks; of the others only so many:"""
BLOCKS = 4
KEPT = ("int8.tflite", "manifest.json", "recipe.yaml")


def tiny_run(name: str, shared: Path) -> dict[str, bytes]:
    """Those files of a RUN of the recipe ``name`` that tests look at; trained once for all processes that
    share the folder ``shared``."""
    folder = shared / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "manifest.json").exists():
            files = _trained(name).files
            write_run(folder, {kept: files[kept] for kept in KEPT})
    return {kept: (folder / kept).read_bytes() for kept in KEPT}


def _trained(name: str) -> Result:
    recipe = load_recipe(name)
    # Pruning and quantization-aware training take as long again and have tests of their own, like ensembles.
    compression = recipe.compression.model_copy(update={"sparsity": 0.0, "method": "post-training"})
    changes: dict[str, object] = {"compression": compression}
    if recipe.distillation:
        teacher = recipe.distillation.teachers[0]
        teacher = teacher.model_copy(update={"model": _short(teacher.model)})
        changes["distillation"] = recipe.distillation.model_copy(update={"teachers": (teacher,)})
    if name != WHOLE:
        changes["model"] = _short(recipe.model)
    recipe = recipe.model_copy(update=changes)
    reporter = Reporter(Console(quiet=True))
    outlines = recipe.task == "segmentation"
    dataset = from_phantoms(recipe, seed=0, counts=OUTLINES if outlines else COUNTS)
    epochs = OUTLINE_EPOCHS if outlines else 1
    return train(prepare(recipe, dataset, 0, reporter, epochs=epochs, generated=True), 0, reporter)


def _short(spec: ModelSpec) -> ModelSpec:
    """Fewer blocks of EfficientNet-Lite0: they take most of the time and add no operator."""
    if spec.kind != "efficientnet-lite0":
        return spec
    return spec.model_copy(update={"blocks": BLOCKS, "frozen": min(spec.frozen, 1)})
