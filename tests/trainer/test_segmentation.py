"""From images with masks to a run: masks move with their images, both outputs are learned, Dice is told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("tensorflow")

from edge.bundle.archive import open_bundle
from edge.bundle.manifest import Manifest
from edge.errors import BadInputError
from trainer.augmentation import augment, move_masks
from trainer.backend import tf
from trainer.data.dataset import load_dataset
from trainer.evaluation.evaluate import evaluate
from trainer.packaging.package import package
from trainer.pipeline import train
from trainer.preparation import from_data, prepare
from trainer.progress import Reporter
from trainer.recipe import Augmentation, Recipe, load_recipe
from trainer.run import write_run
from trainer.segmentation import dice, mask_losses, mask_targets

pytestmark = pytest.mark.slow
QUIET = Reporter(Console(quiet=True))
STILL = {"brightness": 0, "contrast": 0, "gamma": 0, "noise": 0}


def test_a_mask_moves_as_its_image_does() -> None:
    random = np.random.default_rng(0)
    masks = np.zeros((12, 48, 48), np.uint8)
    for mask in masks:
        row, column = random.integers(8, 28, 2)
        mask[row : row + 12, column : column + 8] = 1
    spec = Augmentation(
        flip_left_right=True, flip_up_down=True, rotation_degrees=40, shift=0.2, scale=0.4, **STILL
    )
    for seed in range(3):
        seeds = tf.constant([seed, 7], tf.int64)
        images = np.asarray(augment(masks[..., np.newaxis] * np.uint8(255), spec, seeds))[..., 0]
        moved = np.asarray(move_masks(tf.constant(masks), spec, seeds))
        assert not np.array_equal(moved, masks)
        sure = np.abs(images - 127.5) > 100  # elsewhere the edge runs through the pixel
        assert np.array_equal((images > 127)[sure], moved[sure] == 1)


def test_what_has_moved_out_of_sight_is_not_to_be_found() -> None:
    masks = np.zeros((1, 32, 32), np.uint8)
    masks[0, :8, 13:19] = 1
    still, _ = mask_targets(tf.constant(masks), 2, Augmentation(rotation_degrees=0, shift=0, scale=0), [0, 0])
    assert np.asarray(still).tolist() == [[0, 1]]
    far = Augmentation(rotation_degrees=0, shift=1.0, scale=0)
    shown = [np.asarray(mask_targets(tf.constant(masks), 2, far, [s, 0])[0])[0, 1] for s in range(20)]
    assert 0 < sum(shown) < 20


def test_the_loss_is_least_where_prediction_and_target_agree() -> None:
    random = np.random.default_rng(0)
    known = random.integers(0, 3, (4, 16, 16))
    targets = tf.one_hot(known, 3)
    right, wrong = 12 * targets - 6, 12 * tf.one_hot((known + 1) % 3, 3) - 6
    assert float(mask_losses(right, targets)) < 0.01
    assert float(mask_losses(wrong, targets)) > 5
    assert (float(dice(right, targets)), float(dice(wrong, targets))) == (1, 0)
    # A teacher that is unsure: no answer is better than its own.
    soft = random.normal(0, 1, (4, 16, 16, 3)).astype(np.float32)
    taught = tf.nn.softmax(soft)
    least = float(mask_losses(soft, taught))
    for other in (soft * 3, soft * 0.3, soft + 0.3 * random.normal(0, 1, soft.shape).astype(np.float32)):
        assert float(mask_losses(other, taught)) > least
    nothing = tf.one_hot(np.zeros((2, 8, 8), int), 3)
    assert float(dice(9 * nothing, nothing)) == 1


def write_squares(folder: Path, patients: int = 24) -> None:
    """Gray noise with a bright square of some size in most images, and masks of it; two images a patient."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(2 * patients):
        pixels = np.clip(random.normal(90, 20, (32, 32)), 0, 255)
        mask = np.zeros((32, 32), np.uint8)
        if number % 4:
            side = random.integers(8, 14)
            top, left = random.integers(2, 30 - side, 2)
            mask[top : top + side, left : left + side] = 1
            pixels[mask == 1] += 110
        name = f"patient{number // 2:05}_{number % 2}.png"
        cv2.imwrite(str(folder / "images" / name), np.clip(pixels, 0, 255).astype(np.uint8))
        cv2.imwrite(str(folder / "masks" / name), mask)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("segmentation")
    write_squares(base / "squares")
    recipe = load_recipe("segmentation")
    recipe = recipe.model_copy(
        update={
            "labels": ("nothing", "square"),
            "model": recipe.model.model_copy(update={"width": 0.5}),
            "training": recipe.training.model_copy(update={"average_decay": 0.0}),
        }
    )
    prepared = prepare(recipe, from_data(base / "squares", recipe), 1, QUIET, epochs=16)
    result = train(prepared, 1, QUIET)
    (base / "run").mkdir()
    write_run(base / "run", result.files)
    return base / "run"


def test_the_smallest_masks_are_learned_and_survive_compression(run: Path) -> None:
    variants = json.loads((run / "metrics.json").read_text())["variants"]
    assert set(variants) == {"float", "pruned", "int8"}
    for figures in variants.values():
        assert figures["dice"]["low"] <= figures["dice"]["value"] <= figures["dice"]["high"]
        assert (
            figures["per_class"]["square"]["iou"]["value"] < figures["per_class"]["square"]["dice"]["value"]
        )
    assert variants["int8"]["dice"]["value"] > 0.85
    assert abs(variants["int8"]["dice"]["value"] - variants["pruned"]["dice"]["value"]) < 0.03
    epochs = json.loads((run / "history.json").read_text())["epochs"]
    assert {epoch["stage"] for epoch in epochs} == {"float", "pruning"}
    assert epochs[-1]["tune_dice"] > epochs[0]["tune_dice"]


def test_the_manifest_decides_on_what_the_image_shows(run: Path) -> None:
    manifest = Manifest.model_validate_json((run / "manifest.json").read_bytes())
    assert {output.name for output in manifest.outputs} == {"logits", "cam", "embedding", "mask"}
    assert set(manifest.decision.thresholds) == {"square"} and manifest.decision.negative_label == "nothing"
    assert manifest.decision.ood is not None


def test_the_report_shows_outlines_and_dice(run: Path) -> None:
    html = (run / "report.html").read_text()
    assert "The worst masks" in html and "predicted outline" in html and "Dice" in html
    assert "Confusion matrix" not in html
    assert set(re.findall(r'src="([^,"]*)', html)) == {"data:image/png;base64"}


def test_the_run_becomes_a_bundle_that_evaluates_alike(run: Path, tmp_path: Path) -> None:
    bundle = open_bundle(package(run, "raspberry-pi-5", tmp_path))
    card = bundle.member("MODEL_CARD.md").decode()
    assert "| variant | split | images | Dice | IoU | bytes |" in card and "AUROC" not in card
    dataset = load_dataset(run.parent / "squares", bundle.manifest.labels)
    result = evaluate(bundle, dataset, "all")
    assert result["n"] == 48 and result["dice"] > 0.85 and result["iou"] < result["dice"]
    assert set(result["per_class"]["square"]) == {"dice", "iou"}


def test_a_network_that_draws_nothing_is_refused(run: Path) -> None:
    data = run.parent / "squares"
    recipe = load_recipe("segmentation")
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"kind": "cnn"})})
    with pytest.raises(BadInputError, match=r"'cnn' draws no masks; take 'unet'"):
        train(prepare(recipe, from_data(data, recipe), 0, QUIET, epochs=1), 0, QUIET)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"training": {"mixup": 0.2}}, "training.mixup"),
        ({"task": "single-label", "ejection_fraction": "a"}, "ejection_fraction"),
    ],
)
def test_a_recipe_that_masks_cannot_follow_is_refused(changes: dict[str, object], problem: str) -> None:
    values = load_recipe("segmentation").model_dump(mode="json") | changes
    with pytest.raises(ValueError, match=problem):
        Recipe.model_validate(values)
