"""A recipe: how to train, version 1. The shipped ones are the YAML files of ``trainer/recipes``."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge.bundle.manifest import IntendedUse, Task
from edge.bundle.steps import Step
from edge.errors import BadInputError
from edge.schema import Contract, Label, Name, Probability, parse, read

__all__ = [
    "Augmentation",
    "Compression",
    "DecisionAims",
    "Distillation",
    "InputSize",
    "ModelSpec",
    "PhantomKind",
    "Preparation",
    "Recipe",
    "Teacher",
    "Training",
    "load_recipe",
    "recipe_names",
]

PhantomKind = Literal[
    "chest", "pneumonia", "covid", "ultrasound", "cardiac", "lung-ct", "brain-mri", "fracture", "eeg"
]
"""What :mod:`trainer.data.phantoms` generates."""
Side = Annotated[int, Field(ge=8, le=2048)]
Share = Annotated[float, Field(ge=0, le=1)]


class InputSize(Contract):
    """The network's input. Without height and width, the data's own typical size, enlarged or shrunk so that
    the shorter side is at least ``smallest`` and the longer one at most ``largest``."""

    height: Side | None = None
    width: Side | None = None
    smallest: Side = 16
    largest: Side = 128
    channels: Literal[1, 3] = 1

    @model_validator(mode="after")
    def _both(self) -> InputSize:
        if (self.height is None) != (self.width is None):
            raise ValueError("give height and width together, or neither")
        return self


class ModelSpec(Contract):
    """Which network of ``trainer.models``, and how wide."""

    kind: Name = "cnn"
    width: float = Field(default=1.0, gt=0, le=8)
    dropout: Share = 0.2
    pretrained: str | None = Field(
        default=None, description="'imagenet' for published weights, or a file of them, where there are any"
    )
    blocks: int | None = Field(
        default=None, ge=1, description="efficientnet-lite0: only the first so many of its 16 blocks"
    )
    frozen: int = Field(
        default=0,
        ge=0,
        description="efficientnet-lite0: so many first blocks keep the weights they start with; "
        "statistics of normalization follow the images all the same",
    )


class Augmentation(Contract):
    """Largest random change of a training image; 0 or false switches a change off."""

    flip_left_right: bool = False
    flip_up_down: bool = False
    rotation_degrees: float = Field(default=10, ge=0, le=180)
    shift: Share = Field(default=0.08, description="share of the side")
    scale: Share = Field(default=0.1, description="0.1: from 1/1.1 to 1.1 times")
    brightness: Share = Field(default=0.1, description="share of the full range")
    contrast: Share = 0.15
    gamma: Share = 0.15
    noise: Share = Field(default=0.02, description="standard deviation, share of the full range")
    speckle: Share = Field(default=0.0, description="standard deviation of multiplicative noise")
    exposure: float = Field(
        default=0.0,
        ge=0,
        le=4,
        description="X-ray: up to so many times the dose or its inverse, with its noise",
    )
    grid: Share = Field(default=0.0, description="X-ray: contrast of an anti-scatter grid's lines")
    blur: float = Field(default=0.0, ge=0, le=8, description="standard deviation of a Gaussian, pixels")
    gain: Share = Field(default=0.0, description="ultrasound: error of the gain along the depth")
    shadow: Share = Field(
        default=0.0, description="ultrasound: width of a shadow cast downwards, share of the image's"
    )
    erase: Share = Field(default=0.0, description="side of a blanked square, share of the image's")


class Training(Contract):
    """The optimization."""

    epochs: int = Field(default=40, ge=1, le=10000)
    least_steps: int = Field(
        default=0, ge=0, description="few images get more epochs, until there are so many optimization steps"
    )
    batch_size: int = Field(
        default=32,
        ge=1,
        le=4096,
        description="from nothing, few images are learned in smaller batches, 40 an epoch, down to 8 images",
    )
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(default=2e-3, gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = Field(default=1e-4, ge=0)
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    mixup: float = Field(default=0.0, ge=0, description="alpha of the Beta distribution; 0 is off")
    class_weights: bool = True
    head_epochs: int = Field(
        default=0, ge=0, description="first epochs in which only the head learns, to spare published weights"
    )
    average_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="moving average of weights"
    )
    patience: int = Field(
        default=12,
        ge=1,
        description="epochs without a better tuning loss before stopping, of those that are compared: "
        "along a cosine the last fifth",
    )


class Teacher(Contract):
    """A network that is trained first, for the one that ships to learn from."""

    model: ModelSpec
    epochs: int = Field(ge=1, le=10000)
    learning_rate: float = Field(gt=0)
    head_epochs: int = Field(default=0, ge=0)


class Distillation(Contract):
    """An ensemble of teachers, whose mean probabilities the shipped network learns (Hinton et al. 2015).

    Teachers and student see the same augmented images (Beyer et al. 2022). The ensemble costs time in
    training and none on the cart.
    """

    teachers: Annotated[tuple[Teacher, ...], Field(min_length=1, max_length=16)]
    label_share: Share = Field(default=0.0, description="of the targets; the rest is the teachers'")


class Compression(Contract):
    """Pruning and quantization; the unpruned float network is the teacher of every stage."""

    channels: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="share of channels that stay in each layer; fewer are faster. 1 is off"
    )
    channel_epochs: int = Field(default=10, ge=0, description="of learning after channels were removed")
    channel_learning_rate: float = Field(default=2e-3, gt=0)
    sparsity: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.5,
        description="share of weights set to 0: compresses the transfer, speeds nothing up. 0 is off",
    )
    pruning_epochs: int = Field(default=8, ge=0)
    pruning_learning_rate: float = Field(default=5e-4, gt=0)
    method: Literal["post-training", "quantization-aware"] = Field(
        default="post-training", description="how the network comes to int8"
    )
    quantization_epochs: int = Field(default=4, ge=1, description="of quantization-aware training")
    quantization_learning_rate: float = Field(default=2e-4, gt=0)
    calibration_images: int = Field(default=256, ge=8)


class DecisionAims(Contract):
    """What the thresholds and limits are fitted for."""

    sensitivity: Probability = 0.95
    rejection: Probability = Field(
        default=0.02, description="share of in-distribution images the gates may reject"
    )
    abstain_below: Probability = 0.0


class Preparation(Contract):
    """The steps of a model that was trained elsewhere, before the last resize, which its input gives."""

    steps: tuple[Step, ...]


class Recipe(Contract):
    """How to train: from data to a float network, and from there to int8."""

    schema_version: Literal[1] = 1
    name: Name
    title: str
    intended_use: IntendedUse
    task: Task = "single-label"
    labels: tuple[Label, ...] | None = Field(default=None, description="names for data without class folders")
    negative_label: Label | None = Field(default=None, description="the label that means nothing was found")
    phantom: PhantomKind = Field(default="chest", description="what to generate without --data")
    ejection_fraction: Label | None = Field(
        default=None,
        description="segmentation: the label of the left ventricle's cavity, of which the cart gives the "
        "ejection fraction of a cine",
    )
    input: InputSize = InputSize()
    steps: tuple[Step, ...] = Field(
        default=(), description="before the final resize, which the trainer adds from the input size"
    )
    model: ModelSpec = ModelSpec()
    augmentation: Augmentation = Augmentation()
    training: Training = Training()
    distillation: Distillation | None = None
    compression: Compression = Compression()
    decision: DecisionAims = DecisionAims()

    @model_validator(mode="after")
    def _fits_task(self) -> Recipe:
        if self.task == "segmentation" and self.training.mixup:
            raise ValueError("training.mixup: masks are not mixed; leave it out")
        if self.task == "segmentation" and self.distillation:
            raise ValueError("distillation: teachers teach labels, not masks; leave it out")
        if self.task != "segmentation" and self.ejection_fraction is not None:
            raise ValueError("ejection_fraction: only a segmentation has one")
        return self


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted."""
    found = (files("trainer") / "recipes").iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in found if f.name.endswith(".yaml"))


def load_recipe(name: str) -> Recipe:
    """The shipped recipe called ``name``, or the one in the file of that path.

    Raises:
        BadInputError: no such recipe, or the file does not fit; the message lists the shipped ones.
    """
    if name in recipe_names():
        path = files("trainer") / "recipes" / f"{name}.yaml"
        return parse(path.read_text(encoding="utf-8"), Recipe, path.name)
    if Path(name).suffix in (".yaml", ".yml"):
        return read(Path(name), Recipe)
    raise BadInputError(
        f"unknown recipe '{name}'; shipped recipes: {', '.join(recipe_names())}, or a .yaml file"
    )
