"""Dataset: reads images with their labels from any of the layouts that users have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from edge.bundle.manifest import Task
from edge.bundle.steps import Step
from edge.errors import BadInputError
from edge.imaging.frame import Pixels
from edge.schema import Label
from trainer.data.arrays import read_arrays
from trainer.data.files import Unreadable
from trainer.data.folders import SPLITS, read_class_folders, read_masks, split_folders
from trainer.data.sample import Sample, read_frames
from trainer.data.table import TABLE, read_table

__all__ = ["Dataset", "Loaded", "Sample", "load_dataset"]


_LABELS: TypeAdapter[tuple[str, ...]] = TypeAdapter(Annotated[tuple[Label, ...], Field(max_length=256)])


@dataclass(frozen=True)
class Loaded:
    """Preprocessed images in memory; position ``i`` of every field is the same image.

    ``pixels`` is uint8 ``[n, h, w]`` or ``[n, h, w, 3]``; ``hashes`` are the 6-byte fingerprints and
    ``measures`` the quality measures of the images as they were before the steps. ``masks``, in a
    segmentation, are class indices ``[n, h, w]``, moved as their images were.
    """

    pixels: NDArray[np.uint8]
    samples: list[Sample]
    hashes: list[bytes]
    measures: list[dict[str, float]]
    masks: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Dataset:
    """Images with labels. ``unreadable`` grows while images are read: file, and why, in one line."""

    samples: list[Sample]
    labels: tuple[str, ...]
    task: Task
    origin: Path
    unreadable: list[Unreadable] = field(default_factory=list)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that DATA itself names, in the order train, val, test; none where it is not split."""
        return tuple(
            split for split in ("train", "val", "test") if any(s.split == split for s in self.samples)
        )

    @property
    def default_split(self) -> str:
        """What is evaluated unless the user says otherwise: test, else val, else all."""
        return next((split for split in ("test", "val") if split in self.splits), "all")

    def split(self, name: str) -> list[Sample]:
        """Samples of a split: "train", "val" (or "validation"), "test", or "all".

        Raises:
            BadInputError: there is no such split; the message lists those there are.
        """
        if name == "all":
            return list(self.samples)
        found = [sample for sample in self.samples if sample.split == SPLITS.get(name.lower(), name)]
        if not found:
            there = ", ".join((*self.splits, "all"))
            raise BadInputError(f"{self.origin}: has no split '{name}'; it has: {there}")
        return found

    def truth(self, samples: Sequence[Sample]) -> NDArray[np.int64]:
        """Label indices ``[n]``; multi-label: 0 and 1 in ``[n, C]``. Not for segmentation, which has
        masks."""
        index = {label: number for number, label in enumerate(self.labels)}
        if self.task == "multi-label":
            rows = np.zeros((len(samples), len(self.labels)), np.int64)
            for row, sample in zip(rows, samples, strict=True):
                row[[index[label] for label in sample.labels]] = 1
            return rows
        return np.array([index[sample.labels[0]] for sample in samples], np.int64)

    def read(self, samples: Sequence[Sample]) -> Iterator[tuple[Sample, Pixels]]:
        """Decode the samples one after another, once each; those that cannot be decoded go to ``unreadable``.

        Pixels are uint8 ``[H, W]`` or RGB ``[H, W, 3]``. Nothing is kept, so memory does not grow.
        """
        for path, group in groupby(samples, key=lambda sample: sample.path):
            frames = list(group)
            try:
                yield from zip(frames, read_frames(frames), strict=True)
            except BadInputError as error:
                self.unreadable.append((path or self.origin, str(error)))

    def load(
        self,
        samples: Sequence[Sample],
        steps: Sequence[Step],
        advance: Callable[[], object] = lambda: None,
    ) -> Loaded:
        """Decode and preprocess the samples, once each, into one array; ``advance`` is called after each.

        Only preprocessed images stay in memory. Those that cannot be decoded, or are too small for the
        steps, are left out and go to ``unreadable``.

        Raises:
            BadInputError: not one of them, or none of a class, can be read.
        """
        from edge.imaging.fingerprint import pixel_hash
        from edge.imaging.quality import measure
        from edge.imaging.steps import apply_steps
        from trainer.data.masks import move_mask

        out: NDArray[np.uint8] | None = None
        masks: list[Pixels] = []
        kept: list[Sample] = []
        hashes: list[bytes] = []
        measures: list[dict[str, float]] = []
        for sample, pixels in self.read(samples):
            advance()
            try:
                prepared = apply_steps(pixels, steps)
                if sample.mask is not None:
                    masks.append(move_mask(sample.load_mask(), steps))
            except BadInputError as error:
                self.unreadable.append((sample.path or self.origin, str(error)))
                continue
            if out is None:
                out = np.empty((len(samples), *prepared.shape), np.uint8)
            out[len(kept)] = prepared
            kept.append(sample)
            hashes.append(pixel_hash(pixels))
            measures.append(measure(pixels, prepared))
        self._check_classes_remain(samples, kept)
        assert out is not None
        return Loaded(out[: len(kept)], kept, hashes, measures, np.stack(masks) if masks else None)

    def typical_size(self, most: int = 64) -> tuple[int, int]:
        """Median height and width of at most ``most`` images, evenly picked.

        Raises:
            BadInputError: none of them can be read.
        """
        picked = self.samples[:: max(1, -(-len(self.samples) // most))]
        sizes = [
            pixels.shape[:2]
            for _, pixels in Dataset(picked, self.labels, self.task, self.origin).read(picked)
        ]
        if not sizes:
            raise BadInputError(f"{self.origin}: none of {len(picked)} images tried can be read")
        height, width = np.median(np.array(sizes), axis=0)
        return int(height), int(width)

    def _check_classes_remain(self, asked: Sequence[Sample], kept: Sequence[Sample]) -> None:
        if not kept:
            why = f"; first: {self.unreadable[0][1]}" if self.unreadable else ""
            raise BadInputError(f"{self.origin}: none of {len(asked)} images can be read{why}")
        lost = {label for s in asked for label in s.labels} - {label for s in kept for label in s.labels}
        if lost:
            raise BadInputError(
                f"{self.origin}: no image of class '{min(lost)}' can be read; first: {self.unreadable[0][1]}"
            )


def load_dataset(data: Path, labels: Sequence[str] | None = None) -> Dataset:
    """Find the images of DATA and their labels; pixels are decoded later.

    ``data`` is a MedMNIST ``.npz``; or a folder with a ``labels.csv``; or with ``images`` and ``masks``; or
    of class folders; the last two also below ``train``, ``val`` or ``validation``, and ``test``. Files that
    are no image at all (empty, text named ``.png``) are in ``unreadable``, and do not count. ``labels``
    gives names and their order, as a bundle or a recipe does: classes must be among them, and not all of
    them need be there.

    Raises:
        BadInputError: DATA is missing or laid out in no such way, a class is empty, or there is only one
            class; one line names the place and the remedy.
    """
    try:
        return _load(data, tuple(labels) if labels is not None else None)
    except OSError as error:
        raise BadInputError(f"{error.filename or data}: cannot be read ({error.strerror})") from error


def _load(data: Path, given: tuple[str, ...] | None) -> Dataset:
    unreadable: list[Unreadable] = []
    task: Task = "single-label"
    if not data.exists():
        raise BadInputError(f"{data}: there is no such file or folder")
    if data.is_file():
        if data.suffix.lower() != ".npz":
            raise BadInputError(f"{data}: is neither a folder nor an .npz file")
        samples, names, task = read_arrays(data, given)
    elif (data / TABLE).is_file():
        samples, names, task = read_table(data, given, unreadable)
    elif any(
        (folder / "images").is_dir() and (folder / "masks").is_dir()
        for folder in split_folders(data).values()
    ):
        task = "segmentation"
        samples, names = read_masks(data, given, unreadable)
    else:
        samples, names = read_class_folders(data, given, unreadable)
    if not samples:
        raise BadInputError(
            f"{data}: none of its {len(unreadable)} images can be read; first: {unreadable[0][1]}"
        )
    if len(names) < 2:
        raise BadInputError(f"{data}: has only one class, '{''.join(names)}'; at least two are needed")
    try:
        _LABELS.validate_python(names)
    except ValidationError as error:
        raise BadInputError(
            f"{data}: a label must have 1 to 64 printable characters, and there may be 256 labels"
        ) from error
    return Dataset(samples, names, task, data, unreadable)
