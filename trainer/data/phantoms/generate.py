"""Sets of generated images with their labels and masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.imaging.frame import Pixels
from trainer.data.phantoms import brain_mri, cardiac, chest, eeg, fracture, lung_ct, ultrasound
from trainer.data.phantoms.geometry import Floats
from trainer.recipe import PhantomKind

__all__ = ["LABELS", "Kind", "Phantom", "Phantoms", "generate", "phantom"]

Kind = PhantomKind
LABELS: dict[Kind, tuple[str, ...]] = {
    "chest": chest.LABELS,
    "pneumonia": ("normal", "pneumonia"),
    "covid": ("normal", "pneumonia", "covid"),
    "ultrasound": ultrasound.LABELS,
    "cardiac": cardiac.LABELS,
    "lung-ct": lung_ct.LABELS,
    "brain-mri": brain_mri.LABELS,
    "fracture": fracture.LABELS,
    "eeg": eeg.LABELS,
}
"""Labels of each kind; the first is the negative one."""


@dataclass(frozen=True)
class Phantom:
    """One still: ``pixels`` uint8 ``[size, size]``, of a heart RGB ``[size, size, 3]``; ``mask`` uint8
    ``[size, size]``, 0 or the label's index, of a heart 1 in the left ventricle at end-diastole.
    ``hounsfield`` is what a CT measured, of which ``pixels`` show the window."""

    pixels: Pixels
    mask: Pixels
    hounsfield: Floats | None = None


@dataclass(frozen=True)
class Phantoms:
    """Stills: ``images`` uint8 ``[n, size, size]`` or RGB ``[n, size, size, 3]``, ``masks`` uint8
    ``[n, size, size]``; ``truth`` ``[n]`` indexes ``labels``."""

    images: Pixels
    masks: Pixels
    truth: NDArray[np.int64]
    labels: tuple[str, ...]


def generate(
    kind: Kind, n: int, seed: int, size: int = 128, advance: Callable[[], object] = lambda: None
) -> Phantoms:
    """``n`` stills, each of another person, the labels in turn. The same arguments give the same images.

    Seeds are spawned (:class:`numpy.random.SeedSequence`), so sets of different seeds share no image.
    ``advance`` is called after each.
    """
    labels = LABELS[kind]
    truth = np.arange(n) % len(labels)
    images, masks = [], []
    for label, seeds in zip(truth, np.random.SeedSequence(seed).spawn(n), strict=True):
        patient, exposure = seeds.spawn(2)
        still = phantom(kind, labels[label], patient, exposure, size)
        images.append(still.pixels)
        masks.append(still.mask)
        advance()
    return Phantoms(np.stack(images), np.stack(masks), truth, labels)


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
    return _MAKERS[kind](label, patient, exposure, size)


def _breast(finding: Any, patient: Any, exposure: Any, size: int) -> Phantom:
    clip = ultrasound.clip(finding, patient, exposure, size)
    return Phantom(clip.frames[0], clip.masks[0])


def _pneumonia(finding: str, patient: Any, exposure: Any, size: int) -> Phantom:
    """What most call pneumonia is a consolidation of one lung."""
    shown: dict[str, chest.Finding] = {"normal": "normal", "pneumonia": "consolidation", "covid": "covid"}
    shot = chest.radiograph(shown[finding], patient, exposure, size)
    return Phantom(shot.pixels, np.minimum(shot.mask, LABELS["covid"].index(finding)).astype(np.uint8))


def _heart(finding: Any, patient: Any, exposure: Any, size: int) -> Phantom:
    """End-diastole in red and blue, end-systole in green: what does not move is gray."""
    beat = cardiac.phases(finding, patient, exposure, size)
    diastole, systole = beat.frames
    return Phantom(np.dstack([diastole, systole, diastole]), beat.masks[0])


def _slice(finding: Any, patient: Any, exposure: Any, size: int) -> Phantom:
    shot = lung_ct.axial(finding, patient, exposure, size)
    return Phantom(shot.pixels, shot.mask, shot.hounsfield)


def _plain(make: Callable[..., Any]) -> Callable[..., Phantom]:
    def still(*arguments: Any) -> Phantom:
        shot = make(*arguments)
        return Phantom(shot.pixels, shot.mask)

    return still


_MAKERS: dict[Kind, Callable[..., Phantom]] = {
    "chest": _plain(chest.radiograph),
    "pneumonia": _pneumonia,
    "covid": _pneumonia,
    "ultrasound": _breast,
    "cardiac": _heart,
    "lung-ct": _slice,
    "brain-mri": _plain(brain_mri.axial),
    "fracture": _plain(fracture.radiograph),
    "eeg": _plain(eeg.record),
}
