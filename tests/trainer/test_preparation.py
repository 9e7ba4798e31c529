"""What a recipe leaves open is taken from the data, and what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from edge.bundle.steps import Crop, Grayscale, Pad, Resize, Rgb
from edge.errors import BadInputError
from trainer.data.dataset import Dataset
from trainer.data.sample import Sample
from trainer.preparation import from_data, from_phantoms, prepare, resolve
from trainer.progress import Reporter
from trainer.recipe import InputSize, Recipe, load_recipe, recipe_names

QUIET = Reporter(Console(quiet=True))


def dataset_of(
    labels: tuple[str, ...], height: int = 20, width: int = 20, task: str = "single-label", each: int = 8
) -> Dataset:
    random = np.random.default_rng(0)
    samples = [
        Sample(f"{label}/{i}", (label,), array=random.integers(0, 256, (height, width), dtype=np.uint8))
        for label in labels
        for i in range(each)
    ]
    return Dataset(samples, labels, task, Path("Some data.set"))  # type: ignore[arg-type]


@pytest.fixture
def classifier() -> Recipe:
    return load_recipe("classifier")


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_resolves(name: str) -> None:
    recipe = load_recipe(name)
    labels = recipe.labels or ("a", recipe.negative_label or "normal")
    task = recipe.task if recipe.task == "segmentation" else "single-label"
    resolved = resolve(recipe, dataset_of(labels, task=task), 100, epochs=None)
    assert resolved.labels == labels
    assert isinstance(resolved.steps[-1], Resize)
    Recipe.model_validate_json(resolved.model_dump_json())


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (28, 28, (28, 28)),
        (64, 64, (64, 64)),
        (256, 256, (128, 128)),
        (256, 351, (96, 128)),
        (12, 12, (16, 16)),
    ],
)
def test_input_is_of_the_datas_size_up_to_the_largest(
    classifier: Recipe, height: int, width: int, expected: tuple[int, int]
) -> None:
    size = resolve(classifier, dataset_of(("a", "b"), height, width), 100, None).input
    assert (size.height, size.width) == expected


def test_a_recipe_that_names_a_size_gets_it_and_colour_comes_before_the_resize(classifier: Recipe) -> None:
    wanted = classifier.model_copy(update={"steps": (), "input": InputSize(height=40, width=48, channels=3)})
    resolved = resolve(wanted, dataset_of(("a", "b")), 100, None)
    assert resolved.steps == (Rgb(), Resize(height=40, width=48, method="linear"))
    assert resolve(classifier, dataset_of(("a", "b")), 100, None).steps[0] == Grayscale()


def test_small_images_are_enlarged_smoothly_to_the_least_side_and_large_ones_shrunk_by_area(
    classifier: Recipe,
) -> None:
    wanted = classifier.model_copy(update={"input": InputSize(smallest=56)})
    for (height, width), expected in (
        ((28, 28), Resize(height=56, width=56, method="linear")),
        ((28, 42), Resize(height=56, width=84, method="linear")),
        ((64, 64), Resize(height=64, width=64, method="area")),
        ((256, 256), Resize(height=128, width=128, method="area")),
    ):
        assert resolve(wanted, dataset_of(("a", "b"), height, width), 100, None).steps[-1] == expected


@pytest.mark.parametrize(
    ("labels", "negative"),
    [
        (("Normal", "mass"), "Normal"),
        (("cyst", "healthy", "mass"), "healthy"),
        (("0", "1"), "0"),
        (("0", "1", "2"), None),
        (("benign", "malignant"), None),
    ],
)
def test_the_negative_label_is_known_by_its_usual_names(
    classifier: Recipe, labels: tuple[str, ...], negative: str | None
) -> None:
    assert resolve(classifier, dataset_of(labels), 100, None).negative_label == negative


def test_a_negative_label_that_the_data_lacks_is_refused(classifier: Recipe) -> None:
    wanted = classifier.model_copy(update={"negative_label": "clear"})
    with pytest.raises(BadInputError, match=r"no class 'clear'.*it has: a, b"):
        resolve(wanted, dataset_of(("a", "b")), 100, None)


def test_masks_and_labels_each_need_a_recipe_of_their_kind(classifier: Recipe) -> None:
    with pytest.raises(BadInputError, match=r"masks.*--recipe segmentation.*class folders"):
        resolve(classifier, dataset_of(("a", "b"), task="segmentation"), 100, None)
    with pytest.raises(BadInputError, match=r"no masks for recipe 'segmentation'.*masks/X\.png"):
        resolve(load_recipe("segmentation"), dataset_of(("a", "b")), 100, None)


def masked(height: int = 40, width: int = 50, each: int = 12) -> Dataset:
    """Gray noise, half of it with a bright square that its mask outlines as class 1; two images a patient."""
    random = np.random.default_rng(0)
    samples = []
    for number in range(2 * each):
        pixels = random.integers(60, 140, (height, width), dtype=np.uint8)
        mask = np.zeros((height, width), np.uint8)
        if number % 2:
            top, left = random.integers(4, height // 2, 2)
            mask[top : top + 12, left : left + 12] = 1
            pixels[mask == 1] += 100
        samples.append(Sample(f"{number}", (), array=pixels, mask=mask, patient=str(number // 2)))
    return Dataset(samples, ("nothing", "square"), "segmentation", Path("squares"))


def test_masks_are_prepared_as_their_images_are() -> None:
    recipe = load_recipe("segmentation").model_copy(update={"steps": (Pad(value=9), Crop(left=200))})
    prepared = prepare(recipe, masked(), 0, QUIET)
    assert prepared.name == "squares" and prepared.input_shape == (32, 48, 1)
    for part in prepared.parts:
        assert part.masks is not None and part.masks.shape == part.pixels.shape[:3]
        square = part.masks == 1
        # What is bright is what the mask says, but for pixels that the resize blends at the edge.
        assert ((part.pixels[..., 0] > 155) == square).mean() > 0.98
        assert np.array_equal(part.truth[:, 1], square.any(axis=(1, 2)))
        assert np.array_equal(part.truth[:, 0], 1 - part.truth[:, 1])
        assert part.counts == {"nothing": int(part.truth[:, 0].sum()), "square": int(part.truth[:, 1].sum())}
        assert part.every(3).masks is not None and len(part.every(3).masks) == len(part.every(3).pixels)
    assert prepared.recipe.negative_label == "nothing"
    groups = [{sample.patient for sample in part.loaded.samples} for part in prepared.parts]
    assert not (groups[0] & groups[1] or groups[1] & groups[2] or groups[0] & groups[2])


def test_the_background_is_what_means_that_nothing_was_found() -> None:
    recipe = load_recipe("segmentation").model_copy(update={"negative_label": "square"})
    with pytest.raises(BadInputError, match=r"negative_label is 'square'.*'nothing', is the background"):
        resolve(recipe, masked(), 100, None)


def test_phantom_hearts_are_outlined_and_stay_with_their_split() -> None:
    counts = {"train": 8, "val": 4, "test": 4}
    dataset = from_phantoms(load_recipe("cardiac-segmentation"), seed=1, counts=counts)
    assert dataset.labels == ("background", "left ventricle") and dataset.task == "segmentation"
    assert len({sample.group for sample in dataset.samples}) == 4
    shares = [float((sample.load_mask() == 1).mean()) for sample in dataset.samples]
    assert all(0.01 < share < 0.3 for share in shares) and len(set(shares)) > 8


def test_fewer_epochs_prune_for_fewer_too(classifier: Recipe) -> None:
    short = resolve(classifier, dataset_of(("a", "b")), 100, epochs=3)
    assert short.training.epochs == 3 and short.compression.pruning_epochs == 1


def test_fewer_epochs_teach_for_fewer_too() -> None:
    recipe = load_recipe("chest-xray-small")
    short = resolve(recipe, dataset_of(("a", "b")), 100, epochs=recipe.training.epochs // 4)
    assert recipe.distillation and short.distillation
    for whole, less in zip(recipe.distillation.teachers, short.distillation.teachers, strict=True):
        assert less.epochs == max(1, round(whole.epochs / 4))


@pytest.mark.parametrize(("images", "batch", "epochs"), [(50, 8, 300), (800, 20, 45), (40_000, 64, 30)])
def test_few_images_get_smaller_batches_and_more_epochs(
    classifier: Recipe, images: int, batch: int, epochs: int
) -> None:
    training = classifier.training.model_copy(update={"epochs": 30, "batch_size": 64, "least_steps": 1800})
    wanted = classifier.model_copy(update={"training": training})
    found = resolve(wanted, dataset_of(("a", "b")), images, None).training
    assert (found.batch_size, found.epochs) == (batch, epochs)


def test_a_pretrained_network_keeps_the_batch_that_its_recipe_was_tried_with() -> None:
    recipe = load_recipe("breast-ultrasound")
    assert (
        resolve(recipe, dataset_of(("a", "b")), 100, None).training.batch_size == recipe.training.batch_size
    )


def test_another_label_order_or_mask_is_another_part(classifier: Recipe) -> None:
    part = prepare(classifier, dataset_of(("a", "b")), 0, QUIET).train
    other = part.targets.copy()
    other[0] = other[0][::-1]
    masks = np.zeros(part.pixels.shape[:3], np.uint8)
    masked_part = replace(part, loaded=replace(part.loaded, masks=masks))
    redrawn = replace(part, loaded=replace(part.loaded, masks=masks + 1))
    turned = part.take(range(len(part.pixels) - 1, -1, -1))
    parts = [part, replace(part, targets=other), masked_part, redrawn, turned]
    assert len({one.digest for one in parts}) == len(parts) and part.digest == replace(part).digest


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"training": {"mixup": 0.2}}, "masks are not mixed"),
        (
            {"distillation": {"teachers": [{"model": {"kind": "unet"}, "epochs": 1, "learning_rate": 0.1}]}},
            "teachers teach labels, not masks",
        ),
    ],
)
def test_what_a_segmentation_cannot_learn_from_is_refused_in_its_recipe(
    changes: dict[str, object], why: str
) -> None:
    recipe = load_recipe("segmentation").model_dump(mode="json")
    with pytest.raises(ValueError, match=why):
        Recipe.model_validate(recipe | changes)


def test_images_are_read_once_prepared_and_counted(tmp_path: Path, classifier: Recipe) -> None:
    random = np.random.default_rng(0)
    for label in ("normal", "spot"):
        (tmp_path / label).mkdir()
        for number in range(12):
            pixels = random.integers(0, 256, (24, 24), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / label / f"{number}.png"), pixels)
    (tmp_path / "spot" / "broken.png").write_text("no image")
    prepared = prepare(classifier, from_data(tmp_path, classifier), 0, QUIET)
    assert sum(sum(part.counts.values()) for part in prepared.parts) == 24
    assert prepared.train.pixels.shape[1:] == prepared.input_shape == (24, 24, 1)
    assert np.array_equal(prepared.train.targets.argmax(axis=1), prepared.train.truth)
    assert len(prepared.unreadable) == 1 and "broken.png" in prepared.unreadable[0]
    assert prepared.leaks.count == 0
    assert prepared.train.every(4).pixels.shape[0] == len(prepared.train.every(4).loaded.samples)


def test_a_general_recipe_is_named_after_the_data_a_particular_one_keeps_its_name(classifier: Recipe) -> None:
    data = dataset_of(("a", "b"))
    assert prepare(classifier, data, 0, QUIET).name == "some-data"
    assert prepare(load_recipe("chest-xray"), data, 0, QUIET).name == "chest-xray"


def test_phantoms_say_that_they_are(classifier: Recipe) -> None:
    dataset = from_phantoms(classifier, seed=0, counts={"train": 8, "val": 4, "test": 4})
    assert dataset.splits == ("train", "val", "test")
    prepared = prepare(classifier, dataset, 0, QUIET, generated=True)
    assert "knows nothing of patients" in prepared.recipe.intended_use.statement
    assert prepared.held_out.name == "test" and prepared.leaks.count == 0
