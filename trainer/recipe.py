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
    "InputSize",
    "ModelSpec",
    "Recipe",
    "Training",
    "load_recipe",
    "recipe_names",
]

Side = Annotated[int, Field(ge=8, le=2048)]
Share = Annotated[float, Field(ge=0, le=1)]


class InputSize(Contract):
    """The network's input. Without height and width, the data's own typical size, at most ``largest``."""

    height: Side | None = None
    width: Side | None = None
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
    erase: Share = Field(default=0.0, description="side of a blanked square, share of the image's")


class Training(Contract):
    """The optimization."""

    epochs: int = Field(default=40, ge=1, le=10000)
    least_steps: int = Field(
        default=0, ge=0, description="few images get more epochs, until there are so many optimization steps"
    )
    batch_size: int = Field(
        default=32, ge=1, le=4096, description="few images get smaller batches, 40 an epoch, down to 8 images"
    )
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(default=2e-3, gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = Field(default=1e-4, ge=0)
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    mixup: float = Field(default=0.0, ge=0, description="alpha of the Beta distribution; 0 is off")
    class_weights: bool = True
    average_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="moving average of weights"
    )
    patience: int = Field(default=12, ge=1, description="epochs without a better tuning loss before stopping")


class Compression(Contract):
    """Pruning and quantization."""

    sparsity: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.5, description="share of weights pruned; 0 is off"
    )
    pruning_epochs: int = Field(default=8, ge=0)
    pruning_learning_rate: float = Field(default=5e-4, gt=0)
    calibration_images: int = Field(default=256, ge=8)


class DecisionAims(Contract):
    """What the thresholds and limits are fitted for."""

    sensitivity: Probability = 0.95
    rejection: Probability = Field(
        default=0.02, description="share of in-distribution images the gates may reject"
    )
    abstain_below: Probability = 0.0


class Recipe(Contract):
    """How to train: from data to a float network, and from there to int8."""

    schema_version: Literal[1] = 1
    name: Name
    title: str
    intended_use: IntendedUse
    task: Task = "single-label"
    labels: tuple[Label, ...] | None = Field(default=None, description="names for data without class folders")
    negative_label: Label | None = Field(default=None, description="the label that means nothing was found")
    phantom: Literal["chest", "ultrasound"] = Field(
        default="chest", description="what to generate without --data"
    )
    input: InputSize = InputSize()
    steps: tuple[Step, ...] = Field(
        default=(), description="before the final resize, which the trainer adds from the input size"
    )
    model: ModelSpec = ModelSpec()
    augmentation: Augmentation = Augmentation()
    training: Training = Training()
    compression: Compression = Compression()
    decision: DecisionAims = DecisionAims()


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
