"""From DATA and a recipe to images in memory and a recipe without open questions. Imports no TensorFlow."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import IntendedUse, Task
from edge.bundle.steps import Grayscale, Resize, Rgb, Step
from edge.errors import BadInputError
from trainer.data.dataset import Dataset, Loaded, load_dataset
from trainer.data.leaks import Leaks, find_leaks
from trainer.data.masks import presence
from trainer.data.phantoms.generate import generate
from trainer.data.phantoms.outlined import Outlined, outlined
from trainer.data.sample import Sample
from trainer.data.split import partition
from trainer.evaluation.metrics import one_vs_rest
from trainer.progress import Reporter
from trainer.recipe import Recipe

__all__ = [
    "PHANTOM_COUNTS",
    "Part",
    "Prepared",
    "from_data",
    "from_phantoms",
    "joined",
    "prepare",
    "resolve",
    "slug",
    "tell_problems",
]

NEGATIVE_NAMES = (
    *("normal", "negative", "healthy", "none", "background"),
    *("no finding", "no_finding", "no-finding"),
    *("no tumour", "no_tumour", "no-tumour", "no tumor", "no_tumor", "no-tumor", "notumor"),
)
"""Class names that mean nothing was found, where the recipe names none; in binary data also ``0``."""

PHANTOM_SIDE = 96
PHANTOM_COUNTS = {"train": 600, "val": 80, "test": 120}

LEAST_SIDE = 16
SIDES_OF, MASK_SIDES_OF = 8, 16
"""Sides that a large image is shrunk to are multiples of this; what draws masks halves and doubles them."""
LEAST_BATCH, BATCHES_AN_EPOCH = 8, 40
GENERIC = ("classifier", "segmentation")
COMPRESSION_EPOCHS = ("channel_epochs", "pruning_epochs", "quantization_epochs")


@dataclass(frozen=True)
class Part:
    """One part of the data, in memory.

    ``pixels`` uint8 ``[n, H, W, C]``; ``truth`` int ``[n]``, or 0 and 1 ``[n, K]`` in multi-label data and of
    the classes that the masks of a segmentation show; ``targets`` float32 ``[n, K]``; ``loaded`` has the
    samples, masks, fingerprints and quality measures.
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
        return {label: int(n) for label, n in zip(self.labels, self.targets.sum(axis=0), strict=True)}

    @property
    def masks(self) -> NDArray[np.uint8] | None:
        """Class indices ``[n, H, W]`` of a segmentation."""
        return self.loaded.masks

    @property
    def digest(self) -> str:
        """SHA-256 of the images in their order, their labels and their masks."""
        found = hashlib.sha256(b"".join(self.loaded.hashes))
        found.update(self.targets.tobytes())
        if self.masks is not None:
            found.update(self.masks.tobytes())
        return found.hexdigest()

    def take(self, places: Sequence[int]) -> Part:
        """The images at these places, in this order."""
        loaded = Loaded(
            self.loaded.pixels[places],
            [self.loaded.samples[place] for place in places],
            [self.loaded.hashes[place] for place in places],
            [self.loaded.measures[place] for place in places],
            None if self.masks is None else self.masks[places],
        )
        return replace(
            self,
            pixels=self.pixels[places],
            truth=self.truth[places],
            targets=self.targets[places],
            loaded=loaded,
        )

    def every(self, step: int) -> Part:
        """One image of ``step``."""
        return self.take(range(0, len(self.pixels), step))


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


def joined(one: Part, other: Part) -> Part:
    """The images of both parts."""
    loaded = Loaded(
        np.concatenate([one.loaded.pixels, other.loaded.pixels]),
        one.loaded.samples + other.loaded.samples,
        one.loaded.hashes + other.loaded.hashes,
        one.loaded.measures + other.loaded.measures,
        None if one.masks is None or other.masks is None else np.concatenate([one.masks, other.masks]),
    )
    return replace(
        one,
        pixels=np.concatenate([one.pixels, other.pixels]),
        truth=np.concatenate([one.truth, other.truth]),
        targets=np.concatenate([one.targets, other.targets]),
        loaded=loaded,
    )


def from_data(data: Path, recipe: Recipe) -> Dataset:
    """The dataset in ``data``, checked as far as that goes without decoding its images.

    Raises:
        BadInputError: see :func:`trainer.data.dataset.load_dataset`.
    """
    return load_dataset(data, recipe.labels)


def from_phantoms(
    recipe: Recipe,
    seed: int,
    advance: Callable[[], object] = lambda: None,
    counts: Mapping[str, int] = PHANTOM_COUNTS,
) -> Dataset:
    """Generated images of the recipe's kind and size, ``counts`` of each split; ``advance`` is called after
    each."""
    samples: list[Sample] = []
    labels: tuple[str, ...] = ()
    size = recipe.input.height or PHANTOM_SIDE
    for number, (split, count) in enumerate(counts.items()):
        seed_of_split = seed * len(counts) + number
        if recipe.task == "segmentation":
            outlines = outlined(recipe.phantom, count, seed_of_split, size, advance)
            labels = outlines.labels
            samples += _outlined(split, outlines)
            continue
        images = generate(recipe.phantom, count, seed_of_split, size, advance)
        labels = images.labels
        samples += [
            Sample(f"{split}#{index}", (labels[label],), split=split, array=pixels)
            for index, (pixels, label) in enumerate(zip(images.images, images.truth, strict=True))
        ]
    task: Task = "segmentation" if recipe.task == "segmentation" else "single-label"
    return Dataset(samples, labels, task, Path(f"{recipe.phantom}-phantoms"))


def _outlined(split: str, images: Outlined) -> list[Sample]:
    return [
        Sample(f"{split}#{index}", (), split=split, array=pixels, mask=mask, patient=f"{split} {patient}")
        for index, (pixels, mask, patient) in enumerate(
            zip(images.images, images.masks, images.patient, strict=True)
        )
    ]


def resolve(recipe: Recipe, dataset: Dataset, images: int, epochs: int | None) -> Recipe:
    """The recipe with everything filled in that it leaves to the data, of which ``images`` are trained on.

    ``epochs`` replaces the recipe's, and fewer of them shorten teachers and compression, too.

    Raises:
        BadInputError: the recipe's task or negative label does not fit the data.
    """
    if dataset.task == "segmentation" != recipe.task:
        raise BadInputError(
            f"{dataset.origin}: has masks, which recipe '{recipe.name}' does not learn; take --recipe "
            "segmentation, or put the images in class folders to have them classified"
        )
    if recipe.task == "segmentation" != dataset.task:
        raise BadInputError(
            f"{dataset.origin}: has no masks for recipe '{recipe.name}' to learn; "
            "give images/X.png with masks/X.png, or take a recipe that classifies"
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
    if dataset.task == "segmentation" and negative != dataset.labels[0]:
        raise BadInputError(
            f"recipe '{recipe.name}': negative_label is '{negative}', but in masks value 0, "
            f"'{dataset.labels[0]}', is the background; leave negative_label out"
        )
    size = dataset.typical_size()
    height, width = _input_size(recipe, size)
    training, distillation, compression = recipe.training, recipe.distillation, recipe.compression
    batch = training.batch_size
    if recipe.model.pretrained is None:  # which has all to learn, and needs many steps for it
        batch = min(batch, max(LEAST_BATCH, images // BATCHES_AN_EPOCH))
    if epochs is None:
        epochs = max(training.epochs, -(-training.least_steps // max(1, images // batch)))
    else:
        share = epochs / training.epochs
        stages = {name: getattr(compression, name) for name in COMPRESSION_EPOCHS}
        shorter = {name: min(own, max(1, round(own * share))) for name, own in stages.items()}
        compression = compression.model_copy(update=shorter)
        if distillation:
            teachers = tuple(
                one.model_copy(update={"epochs": max(1, min(one.epochs, round(one.epochs * share)))})
                for one in distillation.teachers
            )
            distillation = distillation.model_copy(update={"teachers": teachers})
    training = training.model_copy(update={"epochs": epochs, "batch_size": batch})
    return recipe.model_copy(
        update={
            "labels": dataset.labels,
            "negative_label": negative,
            "task": dataset.task,
            "input": recipe.input.model_copy(update={"height": height, "width": width}),
            "steps": _steps(recipe, height, width, enlarges=height * width > size[0] * size[1]),
            "training": training,
            "distillation": distillation,
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
    name = slug(dataset.origin.stem) if recipe.name in GENERIC else recipe.name
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


def tell_problems(prepared: Prepared, reporter: Reporter) -> None:
    """Say what is wrong with the data and does not keep it from being used."""
    if prepared.unreadable:
        count, first = len(prepared.unreadable), prepared.unreadable[0]
        reporter.say(f"{count} files cannot be read and are left out; first: {first}")
    if prepared.leaks.count:
        reporter.say(f"{prepared.leaks.count} images stand in more than one part; the report names some")
    if prepared.leaks.near:
        reporter.say(
            f"{prepared.leaks.near} images look the same as one of an earlier part; the report names some"
        )


def _part(name: str, dataset: Dataset, loaded: Loaded) -> Part:
    pixels = loaded.pixels if loaded.pixels.ndim == 4 else loaded.pixels[..., np.newaxis]
    classes = len(dataset.labels)
    truth = dataset.truth(loaded.samples) if loaded.masks is None else presence(loaded.masks, classes)
    targets = one_vs_rest(truth, classes).astype(np.float32)
    return Part(name, pixels, truth, targets, loaded, dataset.labels)


def _negative_label(dataset: Dataset) -> str | None:
    if dataset.task == "segmentation":
        return dataset.labels[0]
    names = NEGATIVE_NAMES + (("0",) if len(dataset.labels) == 2 else ())
    return next((label for label in dataset.labels if label.lower() in names), None)


def _input_size(recipe: Recipe, size: tuple[int, int]) -> tuple[int, int]:
    """The recipe's, or the data's typical ``size``; too large a one is shrunk to multiples of 8.

    Too small a one is enlarged. For masks in any case multiples of 16.
    """
    wanted = recipe.input
    if wanted.height is not None and wanted.width is not None:
        return wanted.height, wanted.width
    unit = MASK_SIDES_OF if recipe.task == "segmentation" else SIDES_OF
    if min(size) < wanted.smallest:
        enlarge = wanted.smallest / min(size)
        size = (round(size[0] * enlarge), round(size[1] * enlarge))
    if max(size) > wanted.largest or unit == MASK_SIDES_OF:
        shrink = min(1.0, wanted.largest / max(size))
        size = (round(size[0] * shrink / unit) * unit, round(size[1] * shrink / unit) * unit)
    return max(size[0], LEAST_SIDE), max(size[1], LEAST_SIDE)


def _steps(recipe: Recipe, height: int, width: int, enlarges: bool) -> tuple[Step, ...]:
    colour: Step = Grayscale() if recipe.input.channels == 1 else Rgb()
    colours = [step for step in recipe.steps if isinstance(step, Grayscale | Rgb)]
    missing = () if colours and colours[-1] == colour else (colour,)
    # What "area" enlarges comes out in squares.
    resize = Resize(height=height, width=width, method="linear" if enlarges else "area")
    return (*recipe.steps, *missing, resize)


def slug(text: str) -> str:
    """``text`` as the name of a bundle."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:64].strip("-") or "model"
