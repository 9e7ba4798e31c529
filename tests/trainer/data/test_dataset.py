"""Datasets in the layouts that users have, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.bundle.steps import Grayscale, Resize
from edge.errors import BadInputError
from trainer.data.dataset import Dataset, load_dataset
from trainer.data.leaks import find_leaks
from trainer.data.phantoms.dicom import write_dicom

STEPS = (Grayscale(), Resize(height=8, width=8))


def put(path: Path, value: int = 100, shape: tuple[int, ...] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 255, shape, np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


def classes(root: Path, *names: str, n: int = 3) -> Path:
    for label, name in enumerate(names):
        for i in range(n):
            put(root / name / f"{i:04}.png", 100 * label + i)
    return root


def names(data: Dataset, split: str = "all") -> list[str]:
    return [sample.name for sample in data.split(split)]


def refused(data: Path, *says: str, labels: tuple[str, ...] | None = None) -> None:
    with pytest.raises(BadInputError) as caught:
        load_dataset(data, labels)
    assert "\n" not in str(caught.value)
    for text in says:
        assert text in str(caught.value)


def test_class_folders_are_labels_in_order(tmp_path: Path) -> None:
    data = load_dataset(classes(tmp_path, "normal", "cyst"))
    assert data.labels == ("cyst", "normal") and data.task == "single-label" and data.splits == ()
    assert data.default_split == "all" and len(data.split("all")) == 6
    assert data.truth(data.samples).tolist() == [0, 0, 0, 1, 1, 1]
    assert data.samples[0].load().shape == (12, 10)


@pytest.mark.parametrize(
    ("folders", "default"),
    [
        (("train", "val", "test"), "test"),
        (("train", "validation"), "val"),
        (("train",), "all"),
        (("Test",), "test"),
    ],
)
def test_split_folders_are_splits_and_the_default_is_test_then_val_then_all(
    tmp_path: Path, folders: tuple[str, ...], default: str
) -> None:
    for folder in folders:
        classes(tmp_path / folder, "a", "b")
    data = load_dataset(tmp_path)
    assert data.default_split == default
    assert len(data.split(default)) == 6
    if "validation" in folders:
        assert names(data, "validation") == names(data, "val")


def test_an_unknown_split_is_refused_with_those_there_are(tmp_path: Path) -> None:
    classes(tmp_path / "train", "a", "b")
    with pytest.raises(BadInputError, match="has no split 'test'; it has: train, all"):
        load_dataset(tmp_path).split("test")


def test_given_labels_set_the_order_and_need_not_all_be_there(tmp_path: Path) -> None:
    data = load_dataset(classes(tmp_path, "a"), ("b", "a"))
    assert data.labels == ("b", "a") and data.truth(data.samples).tolist() == [1, 1, 1]
    refused(classes(tmp_path, "c"), "c: is none of the labels b, a", labels=("b", "a"))


def test_patients_come_from_file_names_and_from_dicom_headers(tmp_path: Path) -> None:
    for label in "ab":
        put(tmp_path / label / "patient3_1.png", ord(label))
    write_dicom(tmp_path / "b" / "IM0001", np.zeros((8, 8), np.uint8), "DX", "CHEST", number=7)
    patients = {sample.name: sample.patient for sample in load_dataset(tmp_path).samples}
    assert patients == {
        "a/patient3_1.png": "patient3",
        "b/patient3_1.png": "patient3",
        "b/IM0001": "PHANTOM-00007",
    }


def test_every_frame_of_a_clip_is_a_sample_of_one_group(tmp_path: Path) -> None:
    classes(tmp_path, "a", n=1)
    frames = np.random.default_rng(0).integers(0, 255, (5, 9, 11), np.uint8)
    path = tmp_path / "b" / "clip.dcm"
    write_dicom(path, frames, "US", "BREAST")
    data = load_dataset(tmp_path)
    clip = [sample for sample in data.samples if sample.path == path]
    assert [sample.name for sample in clip] == [f"b/clip.dcm#{i}" for i in range(5)]
    assert len({sample.group for sample in clip}) == 1
    read = list(data.read([clip[1], clip[4]]))
    assert all((pixels == frames[sample.frame]).all() for sample, pixels in read) and len(read) == 2


def test_what_is_no_image_is_passed_over_or_reported(tmp_path: Path) -> None:
    classes(tmp_path, "a", "b")
    for name in ("Thumbs.db", "README.txt", ".hidden.png", "notes"):
        (tmp_path / "a" / name).write_bytes(b"words")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "a" / "text.png").write_text("this is text")
    (tmp_path / "a" / "empty.jpg").touch()
    data = load_dataset(tmp_path)
    assert len(data.samples) == 6
    assert {path.name for path, _ in data.unreadable} == {"text.png", "empty.jpg"}
    assert all(path.name in why and "\n" not in why for path, why in data.unreadable)


def test_a_file_cut_short_is_found_when_it_is_read(tmp_path: Path) -> None:
    classes(tmp_path, "a", "b")
    cut = put(tmp_path / "a" / "cut.png", shape=(64, 64))
    cut.write_bytes(cut.read_bytes()[:-2000])
    write_dicom(tmp_path / "a" / "cut.dcm", np.zeros((64, 64), np.uint8), "DX", "CHEST")
    (tmp_path / "a" / "cut.dcm").write_bytes((tmp_path / "a" / "cut.dcm").read_bytes()[:-4000])
    data = load_dataset(tmp_path)
    ticks: list[None] = []
    loaded = data.load(data.samples, STEPS, lambda: ticks.append(None))
    assert loaded.pixels.shape == (6, 8, 8) and loaded.pixels.dtype == np.uint8
    assert [s.name for s in loaded.samples] == [n for n in names(data) if "cut" not in n]
    assert len(loaded.hashes) == len(loaded.measures) == len(ticks) == 6
    assert {path.name for path, _ in data.unreadable} == {"cut.png", "cut.dcm"}


def test_a_class_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    classes(tmp_path, "a")
    cut = put(tmp_path / "b" / "cut.png", shape=(64, 64))
    cut.write_bytes(cut.read_bytes()[:-2000])
    data = load_dataset(tmp_path)
    with pytest.raises(BadInputError, match=r"no image of class 'b' can be read; first: .*cut\.png"):
        data.load(data.samples, STEPS)


def test_the_typical_size_is_the_median(tmp_path: Path) -> None:
    for i, side in enumerate((20, 30, 90)):
        put(tmp_path / "a" / f"{i}.png", shape=(side, 2 * side))
    put(tmp_path / "b" / "0.png", shape=(30, 60))
    assert load_dataset(tmp_path).typical_size() == (30, 60)


def test_folders_that_will_not_do_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "missing", "missing: there is no such file or folder")
    (tmp_path / "nothing").mkdir()
    refused(tmp_path / "nothing", "nothing: holds no class folders")
    put(tmp_path / "flat" / "1.png")
    refused(tmp_path / "flat", "holds no class folders", "one folder for each class")
    refused(classes(tmp_path / "one", "a"), "has only one class, 'a'")
    (classes(tmp_path / "empty", "a", "b") / "c").mkdir()
    refused(tmp_path / "empty", "c: class 'c' is empty: holds no images")
    (classes(tmp_path / "bad", "a", "b") / "c").mkdir()
    (tmp_path / "bad" / "c" / "1.png").touch()
    refused(tmp_path / "bad", "class 'c' is empty: none of its 1 image files can be read", "1.png")
    classes(tmp_path / "mixed" / "train", "a", "b")
    refused(classes(tmp_path / "mixed", "c"), "c: stands beside 'train' but is no split")
    for split in ("val", "validation"):
        classes(tmp_path / "twice" / split, "a", "b")
    refused(tmp_path / "twice", "'val' and 'validation' are the same split")
    refused(classes(tmp_path / "long", "a", "x" * 65), "a label must have 1 to 64 printable characters")
    (tmp_path / "file.txt").touch()
    refused(tmp_path / "file.txt", "neither a folder nor an .npz")


def table(root: Path, *lines: str) -> Path:
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def test_a_table_says_labels_patients_and_splits(tmp_path: Path) -> None:
    for name in ("x.png", "deep/y.png", "z.png"):
        put(tmp_path / name)
    table(tmp_path, "path,labels,patient,split", "x.png,a,P,train", "deep/y.png,b,P,train", "z.png,b,,val")
    data = load_dataset(tmp_path)
    assert (data.task, data.labels, data.splits) == ("single-label", ("a", "b"), ("train", "val"))
    assert [sample.patient for sample in data.samples] == ["P", "P", None]


def test_several_labels_in_a_row_make_it_multi_label(tmp_path: Path) -> None:
    for name in "xyz":
        put(tmp_path / f"{name}.png")
    data = load_dataset(table(tmp_path, "path,labels", "x.png,b;a", "y.png,", "z.png,c"))
    assert data.task == "multi-label" and data.labels == ("a", "b", "c")
    assert data.truth(data.samples).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_a_row_without_its_file_or_label_is_named_by_line(tmp_path: Path) -> None:
    put(tmp_path / "x.png")
    refused(
        table(tmp_path, "path,labels", "x.png,a", "y.png,b"), "labels.csv line 3: there is no file", "y.png"
    )
    refused(
        table(tmp_path, "path,labels", "x.png,a"), "line 2: 'a' is none of the labels b, c", labels=("b", "c")
    )
    (tmp_path / "labels.csv").write_bytes(b"path,labels\n\xff,\xfe\n")
    refused(tmp_path, "labels.csv: is not UTF-8 text")


def masks(root: Path, value: int = 2, shape: tuple[int, int] = (12, 10)) -> Path:
    put(root / "images" / "X.png")
    (root / "masks").mkdir(parents=True, exist_ok=True)
    mask = np.zeros(shape, np.uint8)
    mask[2:4] = value
    assert cv2.imwrite(str(root / "masks" / "X.png"), mask)
    return root


def test_images_with_masks_are_segmentation(tmp_path: Path) -> None:
    data = load_dataset(masks(tmp_path / "d"))
    assert data.task == "segmentation" and data.labels == ("0", "1", "2")
    assert set(np.unique(data.samples[0].load_mask())) == {0, 2}
    for split in ("train", "val"):
        masks(tmp_path / "s" / split)
    assert load_dataset(tmp_path / "s", ("back", "cyst", "mass")).splits == ("train", "val")


def test_masks_that_do_not_fit_are_named(tmp_path: Path) -> None:
    refused(masks(tmp_path / "a"), "X.png: holds 2, but the last of 2 labels is 1", labels=("back", "cyst"))
    refused(masks(tmp_path / "b", shape=(10, 12)), "X.png: is 10 x 12, but its image is 12 x 10")
    put(masks(tmp_path / "c") / "images" / "Y.png")
    refused(tmp_path / "c", "Y.png: has no mask of its name")
    put(masks(tmp_path / "d") / "masks" / "Y.png")
    refused(tmp_path / "d", "Y.png: has no image of its name")


def arrays(path: Path, **content: Any) -> Path:
    np.savez(path, **content)
    return path


IMAGES = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)
TRUTH = np.array([[0], [1], [1], [0]])


def test_medmnist_arrays_are_read(tmp_path: Path) -> None:
    both = {"train_images": IMAGES, "train_labels": TRUTH, "test_images": IMAGES, "test_labels": TRUTH[:, 0]}
    data = load_dataset(arrays(tmp_path / "x.npz", **both))
    assert (data.labels, data.splits, data.default_split) == (("0", "1"), ("train", "test"), "test")
    assert data.truth(data.split("test")).tolist() == [0, 1, 1, 0]
    assert (data.split("train")[2].load() == IMAGES[2]).all()
    assert load_dataset(tmp_path / "x.npz", ("normal", "ill")).samples[1].labels == ("ill",)


def test_colour_and_multi_label_arrays_are_read(tmp_path: Path) -> None:
    colour = np.zeros((2, 6, 5, 3), np.uint8)
    hot = np.array([[1, 0, 1], [0, 0, 0]])
    data = load_dataset(arrays(tmp_path / "x.npz", val_images=colour, val_labels=hot))
    assert data.task == "multi-label" and data.labels == ("0", "1", "2")
    assert data.truth(data.samples).tolist() == hot.tolist() and data.samples[0].load().shape == (6, 5, 3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"x": IMAGES}, "has no train_images and train_labels"),
        ({"train_images": IMAGES}, "has no array 'train_labels'"),
        ({"val_labels": TRUTH}, "has no array 'val_images'"),
        ({"train_images": IMAGES, "train_labels": TRUTH[:3]}, "has 4 train_images but 3 train_labels"),
        ({"train_images": IMAGES / 255, "train_labels": TRUTH}, "is float64 [4, 6, 5], but must be uint8"),
        ({"train_images": IMAGES, "train_labels": TRUTH - 1}, "train_labels holds -1"),
        ({"train_images": IMAGES, "train_labels": TRUTH * 0.5}, "train_labels must be integers"),
        ({"train_images": IMAGES, "train_labels": TRUTH * 0}, "has only one class"),
        ({"train_images": IMAGES, "train_labels": np.array([0, 1, None, 1])}, "is not a readable .npz"),
    ],
)
def test_arrays_that_will_not_do_are_named(tmp_path: Path, content: dict[str, Any], says: str) -> None:
    refused(arrays(tmp_path / "x.npz", **content), "x.npz", says)


def test_more_labels_than_names_and_broken_files_are_refused(tmp_path: Path) -> None:
    path = arrays(tmp_path / "x.npz", train_images=IMAGES, train_labels=TRUTH * 2)
    refused(path, "labels up to 2, but only 2 names", labels=("a", "b"))
    path.write_bytes(path.read_bytes()[:300])
    refused(path, "is not a readable .npz")
    path.write_bytes(b"")
    refused(path, "is not a readable .npz")
    refused(tmp_path, "did you mean", "x.npz?")


def test_identical_pixels_in_two_parts_are_found(tmp_path: Path) -> None:
    classes(tmp_path / "train", "a", "b")
    classes(tmp_path / "val", "a", n=4)
    put(tmp_path / "val" / "b" / "new.png", 999)
    data = load_dataset(tmp_path)
    parts = {split: data.load(data.split(split), STEPS) for split in ("train", "val")}
    leaks = find_leaks(parts)
    assert leaks.count == 3
    assert leaks.examples[0] == "val: val/a/0000.png = train: train/a/0000.png"
    assert find_leaks({"train": parts["train"]}).count == 0
