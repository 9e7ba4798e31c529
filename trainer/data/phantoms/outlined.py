"""Sets of generated images for learning masks: what a mask outlines has a name, and images have a patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.imaging.frame import Pixels
from trainer.data.phantoms import cardiac
from trainer.data.phantoms.generate import Kind, generate

__all__ = ["VENTRICLE", "Outlined", "outlined"]

VENTRICLE = ("background", "left ventricle")
FRAMES, FRAME_MS = 4, 210.0
"""Frames of a heart, and the time between them: spread over a cycle, as the next frame shows little new."""


@dataclass(frozen=True)
class Outlined:
    """``images`` and ``masks`` uint8 ``[n, size, size]``, a mask's values being indices of ``labels``; images
    of an equal ``patient[n]`` show the same person."""

    images: Pixels
    masks: Pixels
    patient: NDArray[np.int64]
    labels: tuple[str, ...]


def outlined(
    kind: Kind, n: int, seed: int, size: int = 128, advance: Callable[[], object] = lambda: None
) -> Outlined:
    """``n`` images with masks; the same arguments give the same images, different seeds share none.

    Hearts are frames of clips, of normal and reduced ejection fraction in turn, the left ventricle's cavity
    outlined; other kinds are stills of a person each, with what was found in them outlined. ``advance`` is
    called after each image.
    """
    if kind != "cardiac":
        stills = generate(kind, n, seed, size, advance)
        return Outlined(stills.images, stills.masks, np.arange(n), stills.labels)
    patient = np.arange(n) // FRAMES
    hearts = []
    for number, seeds in enumerate(np.random.SeedSequence(seed).spawn(int(patient[-1]) + 1)):
        finding = cardiac.LABELS[number % len(cardiac.LABELS)]
        heart, exposure = seeds.spawn(2)
        hearts.append(cardiac.clip(finding, heart, exposure, size, FRAMES, FRAME_MS))
        for _ in range(FRAMES):
            advance()
    images = np.concatenate([heart.frames for heart in hearts])[:n]
    return Outlined(images, np.concatenate([heart.masks for heart in hearts])[:n], patient, VENTRICLE)
