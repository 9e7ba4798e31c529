"""Reads data laid out as class folders, or as ``images`` and ``masks``, also below split folders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edge.errors import BadInputError
from trainer.data.files import Unreadable, contents, image_files, subfolders
from trainer.data.patients import patient_of
from trainer.data.sample import Sample

__all__ = ["SPLITS", "expand", "read_class_folders", "read_masks", "split_folders"]

SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
"""What splits may be called, and the name they go by."""


def split_folders(data: Path) -> dict[str | None, Path]:
    """The folders of each split, by split name; ``{None: data}`` where there are none.

    Raises:
        BadInputError: a split stands twice (``val`` and ``validation``), or class folders stand beside
        splits.
    """
    folders = subfolders(data)
    found: dict[str | None, Path] = {}
    for folder in folders:
        split = SPLITS.get(folder.name.lower())
        if split is None:
            continue
        if split in found:
            raise BadInputError(
                f"{data}: '{found[split].name}' and '{folder.name}' are the same split; keep one"
            )
        found[split] = folder
    if not found:
        return {None: data}
    others = [folder.name for folder in folders if folder.name.lower() not in SPLITS]
    if others:
        raise BadInputError(
            f"{data / others[0]}: stands beside '{next(iter(found.values())).name}' but is no split; "
            "the folders must all be splits (train, val, test) or all be classes"
        )
    return found


def read_class_folders(
    data: Path, labels: tuple[str, ...] | None, unreadable: list[Unreadable]
) -> tuple[list[Sample], tuple[str, ...]]:
    """Samples of class folders, and the labels: those given, or the folders' names, sorted.

    Raises:
        BadInputError: no class folder, an empty one, or one that is none of the ``labels``.
    """
    samples: list[Sample] = []
    for split, folder in split_folders(data).items():
        classes = subfolders(folder)
        if not classes:
            raise BadInputError(f"{folder}: holds no class folders{_hint(folder)}")
        for class_folder in classes:
            label = class_folder.name
            if labels is not None and label not in labels:
                raise BadInputError(f"{class_folder}: is none of the labels {', '.join(labels)}")
            samples += _read_class(data, class_folder, split, unreadable)
    return samples, labels or tuple(sorted({label for sample in samples for label in sample.labels}))


def _read_class(
    data: Path, folder: Path, split: str | None, unreadable: list[Unreadable]
) -> Iterator[Sample]:
    before = len(unreadable)
    empty = True
    for path in image_files(folder):
        sample = Sample(
            name=path.relative_to(data).as_posix(),
            labels=(folder.name,),
            split=split,
            path=path,
            patient=patient_of(path.relative_to(folder)),
        )
        for frame in expand(sample, unreadable):
            empty = False
            yield frame
    if empty:
        bad = unreadable[before:]
        why = (
            f"none of its {len(bad)} image files can be read, first {bad[0][1]}" if bad else "holds no images"
        )
        raise BadInputError(f"{folder}: class '{folder.name}' is empty: {why}")


def read_masks(
    data: Path, labels: tuple[str, ...] | None, unreadable: list[Unreadable]
) -> tuple[list[Sample], tuple[str, ...]]:
    """Samples of ``images/X.png`` with ``masks/X.png``, and the labels: those given, or "0" to the largest
    index.

    Raises:
        BadInputError: an image without a mask or the other way round, a mask of another size, with a value
            that no label has, or with colours.
    """
    samples: list[Sample] = []
    largest = 0
    for split, folder in split_folders(data).items():
        images, masks = folder / "images", folder / "masks"
        if not (images.is_dir() and masks.is_dir()):
            raise BadInputError(f"{folder}: needs the folders 'images' and 'masks'")
        by_name = {path.relative_to(masks).with_suffix(""): path for path in image_files(masks)}
        paths = image_files(images)
        if not paths:
            raise BadInputError(f"{images}: holds no images")
        for path in paths:
            mask = by_name.pop(path.relative_to(images).with_suffix(""), None)
            if mask is None:
                raise BadInputError(f"{path}: has no mask of its name in {masks}")
            sample = Sample(
                name=path.relative_to(data).as_posix(),
                labels=(),
                split=split,
                path=path,
                mask=mask,
                patient=patient_of(path.relative_to(images)),
            )
            try:
                size, indices = sample.load().shape[:2], sample.load_mask()
            except BadInputError as error:
                unreadable.append((path, str(error)))
                continue
            if indices.shape != size:
                raise BadInputError(f"{mask}: is {_size(indices.shape)}, but its image is {_size(size)}")
            largest = max(largest, int(indices.max()))
            if labels is not None and largest >= len(labels):
                raise BadInputError(
                    f"{mask}: holds {largest}, but the last of {len(labels)} labels is {len(labels) - 1}"
                )
            samples.append(sample)
        if by_name:
            raise BadInputError(f"{next(iter(by_name.values()))}: has no image of its name in {images}")
    return samples, labels or tuple(str(index) for index in range(largest + 1))


def expand(sample: Sample, unreadable: list[Unreadable]) -> Iterator[Sample]:
    """One sample a frame of the sample's file; none, and a line in ``unreadable``, where it is no image."""
    assert sample.path is not None
    try:
        found = contents(sample.path)
    except BadInputError as error:
        unreadable.append((sample.path, str(error)))
        return
    sample = replace(sample, patient=sample.patient or found.patient)
    if found.frames == 1:
        yield sample
    for frame in range(found.frames if found.frames > 1 else 0):
        yield replace(sample, name=f"{sample.name}#{frame}", frame=frame)


def _hint(folder: Path) -> str:
    if arrays := sorted(folder.glob("*.npz")):
        return f"; did you mean {arrays[0]}?"
    if image_files(folder):
        return "; put the images into one folder for each class, or list them in a labels.csv"
    return ""


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape)
