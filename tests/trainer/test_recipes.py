"""Every shipped recipe goes its whole way on phantoms, and what it makes runs on the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from edge.bundle.manifest import Manifest
from edge.imaging.frame import Frame
from edge.inference.decision import probabilities
from edge.inference.predictor import Predictor
from trainer.data.phantoms import LABELS
from trainer.data.phantoms.writer import OBJECTS, write_multilabel, write_phantoms
from trainer.packaging.operators import OLDEST, least_version, operators
from trainer.pipeline import train
from trainer.preparation import from_data, prepare
from trainer.progress import Reporter
from trainer.recipe import Recipe, load_recipe, recipe_names

QUIET = Reporter(Console(quiet=True))
SEGMENTATIONS = {name for name in recipe_names() if load_recipe(name).task == "segmentation"}


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_by_its_name_makes_a_model_that_both_interpreters_take(
    name: str, tiny_run: Callable[[str], dict[str, bytes]]
) -> None:
    files = tiny_run(name)
    manifest = Manifest.model_validate_json(files["manifest.json"])
    predictor = Predictor.from_model(files["int8.tflite"], manifest)
    size = manifest.input
    assert (size.dtype, size.scale, size.zero_point) == ("int8", 1 / 128, 0)
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (3, size.height, size.width), np.uint8)
    logits = [predictor.engine.run(predictor.prepare(picture)) for picture in pictures]
    assert all(len(tensors) == len(manifest.outputs) for tensors in logits)
    assert least_version(operators(files["int8.tflite"], name), {}) == OLDEST
    recipe = load_recipe(name)
    assert manifest.labels == (recipe.labels or LABELS[recipe.phantom])
    assert manifest.decision.negative_label == manifest.labels[0]
    assert "knows nothing of patients" in manifest.intended_use.statement
    Recipe.model_validate(yaml.safe_load(files["recipe.yaml"]))


@pytest.mark.slow
def test_several_findings_in_an_image_go_their_whole_way_from_a_table(tmp_path: Path) -> None:
    write_multilabel(tmp_path, {"train": 24, "val": 16, "test": 16}, seed=1, size=48)
    recipe = load_recipe("classifier")
    prepared = prepare(recipe, from_data(tmp_path, recipe), 0, QUIET, epochs=1)
    result = train(prepared, 0, QUIET)
    manifest = Manifest.model_validate_json(result.files["manifest.json"])
    assert manifest.task == "multi-label" and manifest.labels == ("consolidation", "effusion", "nodule")
    assert set(manifest.decision.thresholds) == set(manifest.labels)
    predictor = Predictor.from_model(result.files["int8.tflite"], manifest)
    pictures = [sample.load() for sample in prepared.held_out.loaded.samples[:4]]
    logits = np.stack([predictor.predict(Frame(p, "i", "s", "test")).logits for p in pictures])
    # Each label has a chance of its own: they need not sum to 1.
    assert np.abs(probabilities(logits, manifest).sum(axis=1) - 1).max() > 1e-3


@pytest.mark.parametrize("name", sorted(set(recipe_names()) - SEGMENTATIONS))
def test_a_recipe_takes_a_folder_of_its_modalitys_files(tmp_path: Path, name: str) -> None:
    recipe = load_recipe(name)
    dicom = recipe.phantom in OBJECTS
    write_phantoms(tmp_path, recipe.phantom, {"train": 8}, seed=2, size=40, dicom=dicom)
    prepared = prepare(recipe, from_data(tmp_path / "train", recipe), 0, QUIET)
    assert not prepared.unreadable and set(prepared.labels) == set(LABELS[recipe.phantom])
    assert prepared.input_shape[2] == recipe.input.channels
    assert prepared.input_shape[0] == (recipe.input.height or 40)
    assert prepared.recipe.negative_label == LABELS[recipe.phantom][0]
    people = [{sample.patient for sample in part.loaded.samples} for part in prepared.parts]
    assert not people[0] & people[1] and not people[0] & people[2] and not people[1] & people[2]
    if dicom:
        modality, body_part = OBJECTS[recipe.phantom]
        use = recipe.intended_use
        assert modality in (use.modality or [modality]) and body_part in (use.body_part or [body_part])


def test_recipes_are_called_as_their_files_and_need_only_a_folder() -> None:
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name and recipe.negative_label is None
        assert recipe.labels is None or recipe.task == "segmentation"


def test_together_they_exercise_the_main_networks() -> None:
    kinds = {load_recipe(name).model.kind for name in recipe_names()}
    # A MobileNet has the operators of EfficientNet-Lite0; from nothing it told no fractures apart.
    assert kinds == {"cnn", "densenet", "dnn", "efficientnet-lite0", "textbook", "unet"}


def test_where_sides_matter_nothing_is_mirrored() -> None:
    for name in recipe_names():
        recipe = load_recipe(name)
        sided = {"CHEST", "BRAIN", "HEART"} & set(recipe.intended_use.body_part)
        if sided or recipe.phantom in ("chest", "pneumonia", "eeg"):
            assert not recipe.augmentation.flip_left_right, name
        if recipe.phantom == "eeg":
            assert not (recipe.augmentation.shift or recipe.augmentation.rotation_degrees)
