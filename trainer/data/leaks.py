"""Finds images that stand in two parts of the data, which makes results look better than they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.dataset import Loaded

__all__ = ["ALIKE", "Leaks", "find_leaks"]

ALIKE = 0.998
"""Correlation of two images' thumbnails from which on one is taken for a copy of the other. Copies in another
size, compression or brightness reach 0.9998 (median of 60 chest radiographs); the nearest of two different
radiographs of a data set reached 0.96, the nearest slices of a CT 0.995."""

_SIDE = 32
_AT_ONCE = 1024


@dataclass(frozen=True)
class Leaks:
    """``count`` images of later parts are, pixel for pixel, in an earlier one; ``near`` others look the same
    as one there (:data:`ALIKE`). Some of each as "name = name"."""

    count: int
    examples: tuple[str, ...]
    near: int = 0
    near_examples: tuple[str, ...] = ()


def find_leaks(parts: Mapping[str, Loaded], most_examples: int = 5) -> Leaks:
    """Compare the parts in their order (train first), by pixel hashes and then by thumbnails.

    The thumbnails are of the prepared images; a blank one is like no other.
    """
    seen: dict[bytes, str] = {}
    found: list[str] = []
    near: list[str] = []
    names: list[str] = []
    thumbnails = np.zeros((0, _SIDE**2), np.float32)
    for part, loaded in parts.items():
        here: dict[bytes, str] = {}
        own = [f"{part}: {sample.name}" for sample in loaded.samples]
        small = _thumbnails(loaded.pixels)
        for name, fingerprint, (other, likeness) in zip(
            own, loaded.hashes, _nearest(small, thumbnails), strict=True
        ):
            if fingerprint in seen:
                found.append(f"{name} = {seen[fingerprint]}")
            elif likeness >= ALIKE:
                near.append(f"{name} = {names[other]}")
            here.setdefault(fingerprint, name)
        seen = here | seen
        names += own
        thumbnails = np.concatenate([thumbnails, small])
    return Leaks(len(found), tuple(found[:most_examples]), len(near), tuple(near[:most_examples]))


def _thumbnails(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Float32 ``[n, 1024]``: gray, without mean, of length 1."""
    gray = pixels if pixels.ndim == 3 else pixels.mean(axis=-1).astype(np.uint8)
    small = [cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).reshape(-1) for image in gray]
    centred = np.stack(small).astype(np.float32)
    centred -= centred.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6), np.float32)


def _nearest(own: NDArray[np.float32], others: NDArray[np.float32]) -> list[tuple[int, float]]:
    """For each image the most alike of ``others``, and their correlation."""
    if not len(others):
        return [(0, 0.0)] * len(own)
    found: list[tuple[int, float]] = []
    for start in range(0, len(own), _AT_ONCE):
        likeness = own[start : start + _AT_ONCE] @ others.T
        best = likeness.argmax(axis=1)
        found += [(int(index), float(row[index])) for index, row in zip(best, likeness, strict=True)]
    return found
