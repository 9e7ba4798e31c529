"""From a model that was trained elsewhere, and data to judge it by, to what a training leaves: a RUN."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import IntendedUse, Manifest, OutputSpec, Provenance, Source
from edge.bundle.target import Target
from edge.errors import BadInputError, ScanwrightError
from edge.inference.tflite import TFLiteEngine
from trainer.brought.check import check_conversion, check_form
from trainer.brought.convert import to_int8, to_tflite
from trainer.brought.graph import Brought, bring_into_form
from trainer.brought.scaling import Scaling, from_tensor, input_spec, parse_scaling
from trainer.calibration import calibration_images, full_range
from trainer.finishing import Finished, draft, finish, learned_from, tools
from trainer.packaging.operators import check_target, operators
from trainer.preparation import Prepared, from_data, prepare, slug, tell_problems
from trainer.progress import Reporter
from trainer.recipe import InputSize, Recipe

__all__ = ["Wanted", "bring"]

CHECKED_IMAGES = 8
GENERIC = "classifier"
STATEMENT = (
    "Sorts images into the labels named here, by a model that was trained elsewhere. Modality, body part and "
    "age are not restricted: bring it with a recipe that names them before clinical use."
)


@dataclass(frozen=True)
class Wanted:
    """What the user says of a model: labels in the order of its outputs, and how its images were scaled."""

    recipe: Recipe
    scale: str | None
    mean: str = "0"
    std: str = "1"


def bring(
    source: Path, data: Path, wanted: Wanted, target: Target, seed: int, reporter: Reporter
) -> Finished:
    """Convert, quantize, judge and decide; the model's weights are not touched.

    The data is divided as for a training: its train part calibrates, its tuning part fits temperature,
    thresholds and limits, and the held-out part judges.

    Raises:
        BadInputError: the model, the data or what was said of them does not do.
        ScanwrightError: conversion failed, the target lacks an operator, or nothing shows that the model can
            tell the labels apart.
    """
    reporter.say(f"Bringing {source.name} into the form that carts run")
    given = to_tflite(source)
    check_target(operators(given, str(source)), target, str(source))
    brought = bring_into_form(given, str(source))
    tensor = TFLiteEngine(brought.model).input
    if wanted.scale is None and not brought.quantized:
        raise BadInputError(
            "--scale: say how pixels of 0 to 255 were scaled in training: 1/255 for 0 to 1, "
            "1/127.5 with --mean 1 for -1 to 1, 1 for none"
        )
    scaling = from_tensor(tensor) if wanted.scale is None else _scaling(wanted, brought.channels)
    prepared = _prepare(source, data, wanted, brought, seed, reporter)
    images, calibration = calibration_images(
        prepared.train, prepared.recipe.compression.calibration_images, seed
    )
    models = {"int8": brought.model}
    if not brought.quantized:
        few = scaling.apply(images[:CHECKED_IMAGES])
        if source.suffix.lower() == ".onnx":
            check_conversion(source, given, few)
        check_form(given, brought, few, str(source))
        reporter.say("Quantizing to int8, and judging it through the device's interpreter")
        models = {"float": brought.model, "int8": _quantized(brought, images, scaling, source)}
    provenance = Provenance(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        training_data=learned_from(prepared),
        calibration=None if brought.quantized else calibration,
        tools=tools(*(() if brought.quantized else ("tensorflow",)), "numpy", "ai-edge-litert"),
        source=Source(format=_format(source), sha256=_digest(source), notes=brought.notes),
    )
    drafts = {
        name: _draft(prepared, model, brought, scaling, provenance, str(source))
        for name, model in models.items()
    }
    finished = finish(prepared, models, drafts, seed)
    _check_better_than_chance(source, finished, prepared)
    return finished


def _scaling(wanted: Wanted, channels: int) -> Scaling:
    assert wanted.scale is not None
    return parse_scaling(wanted.scale, wanted.mean, wanted.std, channels)


def _prepare(
    source: Path, data: Path, wanted: Wanted, brought: Brought, seed: int, reporter: Reporter
) -> Prepared:
    labels = wanted.recipe.labels
    if labels is None:
        raise BadInputError(
            f"--labels: name the model's {brought.classes} outputs in their order, separated by commas"
        )
    if len(labels) != brought.classes:
        raise BadInputError(f"--labels: {len(labels)} are given, but {source} has {brought.classes} outputs")
    size = InputSize.model_validate(
        {"height": brought.height, "width": brought.width, "channels": brought.channels}
    )
    recipe = wanted.recipe.model_copy(update={"input": size})
    if recipe.name == GENERIC:
        recipe = recipe.model_copy(update={"intended_use": IntendedUse(statement=STATEMENT)})
    dataset = from_data(data, recipe)
    if dataset.task == "multi-label" and brought.ending in ("softmax", "log-softmax"):
        raise BadInputError(
            f"{data}: has images with several labels or none, but {source} ends in a softmax, which names one"
        )
    prepared = prepare(recipe, dataset, seed, reporter)
    tell_problems(prepared, reporter)
    name = source.name.removesuffix(source.suffix) if recipe.name == GENERIC else recipe.name
    return replace(prepared, name=slug(name))


def _quantized(brought: Brought, images: NDArray[np.uint8], scaling: Scaling, source: Path) -> bytes:
    return to_int8(brought.model, scaling.apply(full_range(images)), source)


def _draft(
    prepared: Prepared, model: bytes, brought: Brought, scaling: Scaling, provenance: Provenance, origin: str
) -> Manifest:
    engine = TFLiteEngine(model)
    shapes = [output.shape for output in engine.outputs]
    wanted = [output.shape for output in TFLiteEngine(brought.model).outputs]
    if shapes != wanted:
        raise ScanwrightError(f"{origin}: quantization changed its outputs from {wanted} to {shapes}")
    outputs = tuple(
        OutputSpec.model_validate(
            {
                "name": name,
                "index": index,
                "shape": found.shape,
                "dtype": found.dtype,
                "scale": found.scale,
                "zero_point": found.zero_point,
            }
        )
        for index, (name, found) in enumerate(zip(brought.outputs, engine.outputs, strict=True))
    )
    spec = input_spec(engine.input, scaling)
    return draft(prepared, spec, outputs, provenance)


def _check_better_than_chance(source: Path, finished: Finished, prepared: Prepared) -> None:
    """A model whose labels are in another order, or whose images were scaled otherwise, must not pass as good
    because its int8 copy is as bad."""
    first = next(iter(finished.variants.values()))
    found = first.metrics.auroc
    if found is not None and found.low <= 0.5:
        raise ScanwrightError(
            f"{source}: refused, nothing shows that it tells the labels apart: held-out AUROC "
            f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f}, {first.metrics.n} images); are "
            "--labels in the order of its outputs, and --scale and --steps those it was trained with?"
        )


def _format(source: Path) -> Literal["keras", "saved-model", "onnx", "tflite"]:
    if source.is_dir():
        return "saved-model"
    suffix = source.suffix.lower()
    return "onnx" if suffix == ".onnx" else "tflite" if suffix == ".tflite" else "keras"


def _digest(source: Path) -> str:
    digest = hashlib.sha256()
    if source.is_file():
        digest.update(source.read_bytes())
    else:
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            digest.update(path.relative_to(source).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
