"""Every shipped recipe goes its whole way on phantoms, and what it makes runs on the device."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from tiny_runs import tiny_run

from edge.bundle.manifest import Manifest
from edge.inference.predictor import Predictor
from trainer.data.phantoms import LABELS
from trainer.packaging.operators import OLDEST, least_version, operators
from trainer.recipe import Recipe, load_recipe, recipe_names


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_by_its_name_makes_a_model_that_both_interpreters_take(name: str) -> None:
    files = tiny_run(name).files
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


def test_recipes_are_called_as_their_files_and_need_only_a_folder() -> None:
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name and recipe.negative_label is None
        assert recipe.labels is None or recipe.task == "segmentation"


def test_together_they_exercise_the_main_networks() -> None:
    kinds = {load_recipe(name).model.kind for name in recipe_names()}
    assert {"cnn", "densenet", "dnn", "mobilenet", "textbook"} <= kinds


def test_where_sides_matter_nothing_is_mirrored() -> None:
    for name in recipe_names():
        recipe = load_recipe(name)
        sided = {"CHEST", "BRAIN", "HEART"} & set(recipe.intended_use.body_part)
        if sided or recipe.phantom in ("chest", "pneumonia", "eeg"):
            assert not recipe.augmentation.flip_left_right, name
        if recipe.phantom == "eeg":
            assert not (recipe.augmentation.shift or recipe.augmentation.rotation_degrees)
