"""From DATA and a recipe to images in memory and a recipe without open questions. Imports no TensorFlow."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import IntendedUse
from edge.bundle.steps import Grayscale, Resize, Rgb, Step
from edge.errors import BadInputError
from trainer.data.dataset import Dataset, Loaded, load_dataset
from trainer.data.leaks import Leaks, find_leaks
from trainer.data.phantoms.generate import generate
from trainer.data.sample import Sample
from trainer.data.split import partition
from trainer.evaluation.metrics import one_vs_rest
from trainer.progress import Reporter
from trainer.recipe import Recipe

__all__ = ["Part", "Prepared", "from_data", "from_phantoms", "prepare", "resolve"]

NEGATIVE_NAMES = ("normal", "negative", "healthy", "no finding", "no_finding", "no-finding", "none")
"""Class names that mean nothing was found, where the recipe names none; in binary data also ``0``."""

PHANTOM_SIDE = 96
PHANTOM_COUNTS = {"train": 600, "val": 80, "test": 120}

LEAST_SIDE = 16
LEAST_BATCH, BATCHES_AN_EPOCH = 8, 40
GENERIC = "classifier"
COMPRESSION_EPOCHS = ("channel_epochs", "pruning_epochs", "quantization_epochs")


@dataclass(frozen=True)
class Part:
    """One part of the data, in memory.

    ``pixels`` uint8 ``[n, H, W, C]``; ``truth`` int ``[n]``, or 0 and 1 ``[n, K]`` in multi-label data;
    ``targets`` float32 ``[n, K]``; ``loaded`` has the samples, fingerprints and quality measures.
    """

    name: str
    pixels: NDArray[np.uint8]
    truth: NDArray[np.int64]
    targets: NDArray[np.float32]
    loaded: Loaded
    labels: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Images of each label."""
        found = Counter(label for sample in self.loaded.samples for label in sample.labels)
        return {label: found[label] for label in self.labels}

    def every(self, step: int) -> Part:
        """One image of ``step``."""
        loaded = Loaded(
            self.loaded.pixels[::step],
            self.loaded.samples[::step],
            self.loaded.hashes[::step],
            self.loaded.measures[::step],
        )
        return Part(
            self.name, self.pixels[::step], self.truth[::step], self.targets[::step], loaded, self.labels
        )


@dataclass(frozen=True)
class Prepared:
    """All that a training needs: the resolved recipe (labels, input size, steps, task) and the parts."""

    name: str
    recipe: Recipe
    train: Part
    tune: Part
    held_out: Part
    leaks: Leaks
    unreadable: tuple[str, ...]
    generated: bool

    @property
    def parts(self) -> tuple[Part, Part, Part]:
        """Train, tune and held out."""
        return self.train, self.tune, self.held_out

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        assert self.recipe.labels is not None
        return self.recipe.labels

    @property
    def steps(self) -> tuple[Step, ...]:
        """The preprocessing, the last resize included."""
        return self.recipe.steps

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the network's input."""
        size = self.recipe.input
        assert size.height is not None and size.width is not None
        return size.height, size.width, size.channels


def from_data(data: Path, recipe: Recipe) -> Dataset:
    """The dataset in ``data``, checked as far as that goes without decoding its images.

    Raises:
        BadInputError: see :func:`trainer.data.dataset.load_dataset`.
    """
    return load_dataset(data, recipe.labels)


def from_phantoms(recipe: Recipe, seed: int) -> Dataset:
    """Generated images of the recipe's kind, with their own train, val and test splits."""
    samples: list[Sample] = []
    labels: tuple[str, ...] = ()
    for number, (split, count) in enumerate(PHANTOM_COUNTS.items()):
        images = generate(recipe.phantom, count, seed=seed * len(PHANTOM_COUNTS) + number, size=PHANTOM_SIDE)
        labels = images.labels
        samples += [
            Sample(f"{split}#{index}", (labels[label],), split=split, array=pixels)
            for index, (pixels, label) in enumerate(zip(images.images, images.truth, strict=True))
        ]
    return Dataset(samples, labels, "single-label", Path(f"{recipe.phantom}-phantoms"))


def resolve(recipe: Recipe, dataset: Dataset, images: int, epochs: int | None) -> Recipe:
    """The recipe with everything filled in that it leaves to the data, of which ``images`` are trained on.

    ``epochs`` replaces the recipe's, and fewer of them shorten the compression, too.

    Raises:
        BadInputError: the recipe's task or negative label does not fit the data, or the data has masks.
    """
    if dataset.task == "segmentation":
        raise BadInputError(
            f"{dataset.origin}: has masks, and this version trains classifiers only; "
            "put the images in class folders to have them classified"
        )
    if recipe.task not in ("single-label", dataset.task):
        raise BadInputError(
            f"{dataset.origin}: is {dataset.task} data, recipe '{recipe.name}' needs {recipe.task}"
        )
    negative = recipe.negative_label or _negative_label(dataset)
    if negative is not None and negative not in dataset.labels:
        raise BadInputError(
            f"{dataset.origin}: has no class '{negative}', the negative one of recipe '{recipe.name}'; "
            f"it has: {', '.join(dataset.labels)}"
        )
    height, width = _input_size(recipe, dataset)
    training, compression = recipe.training, recipe.compression
    batch = min(training.batch_size, max(LEAST_BATCH, images // BATCHES_AN_EPOCH))
    if epochs is None:
        epochs = max(training.epochs, -(-training.least_steps // max(1, images // batch)))
    else:
        share = epochs / training.epochs
        stages = {name: getattr(compression, name) for name in COMPRESSION_EPOCHS}
        shorter = {name: min(own, max(1, round(own * share))) for name, own in stages.items()}
        compression = compression.model_copy(update=shorter)
    training = training.model_copy(update={"epochs": epochs, "batch_size": batch})
    return recipe.model_copy(
        update={
            "labels": dataset.labels,
            "negative_label": negative,
            "task": dataset.task,
            "input": recipe.input.model_copy(update={"height": height, "width": width}),
            "steps": _steps(recipe, height, width),
            "training": training,
            "compression": compression,
        }
    )


def prepare(
    recipe: Recipe,
    dataset: Dataset,
    seed: int,
    reporter: Reporter,
    *,
    epochs: int | None = None,
    generated: bool = False,
) -> Prepared:
    """Divide the data, decode every image once and run the steps on it.

    Raises:
        BadInputError: the data does not do, as :mod:`trainer.data` says; or see :func:`resolve`.
    """
    division = partition(dataset, seed)
    resolved = resolve(recipe, dataset, len(division.train), epochs)
    parts = {"train": division.train, "tune": division.tune, division.held_out_name: division.held_out}
    total = sum(len(samples) for samples in parts.values())
    with reporter.bar("Reading images", total) as advance:
        loaded = {name: dataset.load(samples, resolved.steps, advance) for name, samples in parts.items()}
    train, tune, held_out = (_part(name, dataset, part) for name, part in loaded.items())
    if generated:
        use = IntendedUse(
            statement="Demonstration only: learned from generated phantoms and knows nothing of patients."
        )
        resolved = resolved.model_copy(update={"intended_use": use})
    name = _slug(dataset.origin.stem) if recipe.name == GENERIC else recipe.name
    return Prepared(
        name=name,
        recipe=resolved,
        train=train,
        tune=tune,
        held_out=held_out,
        leaks=find_leaks(loaded),
        unreadable=tuple(why for _, why in dataset.unreadable),
        generated=generated,
    )


def _part(name: str, dataset: Dataset, loaded: Loaded) -> Part:
    pixels = loaded.pixels if loaded.pixels.ndim == 4 else loaded.pixels[..., np.newaxis]
    truth = dataset.truth(loaded.samples)
    targets = one_vs_rest(truth, len(dataset.labels)).astype(np.float32)
    return Part(name, pixels, truth, targets, loaded, dataset.labels)


def _negative_label(dataset: Dataset) -> str | None:
    names = NEGATIVE_NAMES + (("0",) if len(dataset.labels) == 2 else ())
    return next((label for label in dataset.labels if label.lower() in names), None)


def _input_size(recipe: Recipe, dataset: Dataset) -> tuple[int, int]:
    """The recipe's, or the data's typical size; if that is too large, shrunk to multiples of 8."""
    wanted = recipe.input
    if wanted.height is not None and wanted.width is not None:
        return wanted.height, wanted.width
    size = dataset.typical_size()
    if max(size) > wanted.largest:
        shrink = wanted.largest / max(size)
        size = (round(size[0] * shrink / 8) * 8, round(size[1] * shrink / 8) * 8)
    return max(size[0], LEAST_SIDE), max(size[1], LEAST_SIDE)


def _steps(recipe: Recipe, height: int, width: int) -> tuple[Step, ...]:
    colour: Step = Grayscale() if recipe.input.channels == 1 else Rgb()
    colours = [step for step in recipe.steps if isinstance(step, Grayscale | Rgb)]
    missing = () if colours and colours[-1] == colour else (colour,)
    return (*recipe.steps, *missing, Resize(height=height, width=width, method="area"))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:64].strip("-") or "model"
