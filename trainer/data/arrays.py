"""Reads MedMNIST's ``.npz`` layout: ``train_images``, ``train_labels``, ``val_…``, ``test_…``."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInputError
from trainer.data.sample import Sample

__all__ = ["read_arrays"]


def read_arrays(
    path: Path, labels: tuple[str, ...] | None
) -> tuple[list[Sample], tuple[str, ...], Literal["single-label", "multi-label"]]:
    """Samples of an ``.npz`` as MedMNIST v2 has them (Yang et al. 2023), the labels (those given, or "0" to
    the largest) and the task.

    Images are uint8 ``[n, h, w]``, ``[n, h, w, 1]`` or RGB ``[n, h, w, 3]``; labels are integers ``[n]`` or
    ``[n, 1]``, or 0 and 1 in ``[n, C]`` for multi-label data.

    Raises:
        BadInputError: no such file, not an npz, arrays missing or of another shape or type, naming the array.
    """
    splits: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for split in ("train", "val", "test"):
                if f"{split}_images" in arrays or f"{split}_labels" in arrays:
                    splits[split] = _pair(path, arrays, split)
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        raise BadInputError(f"{path}: is not a readable .npz of arrays ({error})") from error
    if not splits:
        raise BadInputError(
            f"{path}: has no train_images and train_labels (nor val_…, test_…), as MedMNIST files do"
        )
    widths = {truth.shape[1] for _, truth in splits.values()}
    if len(widths) > 1:
        raise BadInputError(f"{path}: the labels of its splits have different numbers of columns")
    multi = widths != {1}
    count = widths.pop() if multi else max(int(truth.max()) for _, truth in splits.values()) + 1
    names = labels or tuple(str(index) for index in range(count))
    if count > len(names):
        raise BadInputError(f"{path}: has labels up to {count - 1}, but only {len(names)} names are given")
    samples = [
        Sample(name=f"{split}_images[{index}]", labels=_names(row, names, multi), split=split, array=image)
        for split, (images, truth) in splits.items()
        for index, (image, row) in enumerate(zip(images, truth, strict=True))
    ]
    return samples, names, "multi-label" if multi else "single-label"


def _pair(path: Path, arrays: Any, split: str) -> tuple[NDArray[Any], NDArray[Any]]:
    for key in (f"{split}_images", f"{split}_labels"):
        if key not in arrays:
            raise BadInputError(f"{path}: has no array '{key}'")
    images, truth = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))):
        raise BadInputError(
            f"{path}: {split}_images is {images.dtype} {list(images.shape)}, "
            "but must be uint8 [n, h, w] or [n, h, w, 3]"
        )
    if images.size == 0:
        raise BadInputError(f"{path}: {split}_images is empty")
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    truth = truth[:, None] if truth.ndim == 1 else truth
    if truth.ndim != 2 or truth.dtype.kind not in "iub" or truth.shape[1] == 0:
        raise BadInputError(
            f"{path}: {split}_labels must be integers, [n] or [n, 1], or [n, C] for several labels"
        )
    if len(truth) != len(images):
        raise BadInputError(f"{path}: has {len(images)} {split}_images but {len(truth)} {split}_labels")
    low, high = int(truth.min()), int(truth.max())
    if low < 0 or high > (255 if truth.shape[1] == 1 else 1):
        raise BadInputError(f"{path}: {split}_labels holds {low if low < 0 else high}, which is no label")
    return images, truth


def _names(row: NDArray[Any], names: tuple[str, ...], multi: bool) -> tuple[str, ...]:
    if multi:
        return tuple(names[index] for index in np.flatnonzero(row))
    return (names[int(row[0])],)
