"""Sets of generated images with their labels and masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from edge.imaging.frame import Pixels
from trainer.data.phantoms import chest, ultrasound

__all__ = ["LABELS", "Kind", "Phantom", "Phantoms", "generate", "phantom"]

Kind = Literal["chest", "ultrasound"]
LABELS: dict[Kind, tuple[str, ...]] = {"chest": chest.LABELS, "ultrasound": ultrasound.LABELS}
"""Labels of each kind; the first, "normal", is the negative one."""


@dataclass(frozen=True)
class Phantom:
    """One still: ``pixels`` uint8 ``[size, size]``; ``mask`` of the same size, 0 or the label's index."""

    pixels: Pixels
    mask: Pixels


@dataclass(frozen=True)
class Phantoms:
    """Stills: ``images`` and ``masks`` uint8 ``[n, size, size]``; ``truth`` ``[n]`` indexes ``labels``."""

    images: Pixels
    masks: Pixels
    truth: NDArray[np.int64]
    labels: tuple[str, ...]


def generate(kind: Kind, n: int, seed: int, size: int = 128) -> Phantoms:
    """``n`` stills, each of another person, the labels in turn. The same arguments give the same images.

    Seeds are spawned (:class:`numpy.random.SeedSequence`), so sets of different seeds share no image.
    """
    labels = LABELS[kind]
    truth = np.arange(n) % len(labels)
    images = np.empty((n, size, size), np.uint8)
    masks = np.empty_like(images)
    for index, seeds in enumerate(np.random.SeedSequence(seed).spawn(n)):
        patient, exposure = seeds.spawn(2)
        still = phantom(kind, labels[truth[index]], patient, exposure, size)
        images[index], masks[index] = still.pixels, still.mask
    return Phantoms(images, masks, truth, labels)


def phantom(
    kind: Kind,
    label: str,
    patient: np.random.SeedSequence,
    exposure: np.random.SeedSequence,
    size: int,
) -> Phantom:
    """One still of ``label``. Equal ``patient`` seeds show the same person, equal ``exposure`` the same shot.

    Raises:
        ValueError: ``kind`` has no such label.
    """
    if label not in LABELS[kind]:
        raise ValueError(f"{kind} phantoms have the labels {', '.join(LABELS[kind])}, not '{label}'")
    if kind == "chest":
        shot = chest.radiograph(cast(chest.Finding, label), patient, exposure, size)
        return Phantom(shot.pixels, shot.mask)
    clip = ultrasound.clip(cast(ultrasound.Finding, label), patient, exposure, size)
    return Phantom(clip.frames[0], clip.masks[0])
