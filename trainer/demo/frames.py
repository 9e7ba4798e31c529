"""What the demo shows its cart: phantoms that the model has not seen, and a real ultrasound clip."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from pydicom.data import get_testdata_file

from edge.errors import ScanwrightError
from edge.imaging.decode import decode_file
from trainer.data.phantoms import LABELS, phantom
from trainer.data.phantoms.dicom import write_dicom

__all__ = ["CLIP", "SIDE", "Case", "write_cases"]

SIDE = 256
"""Rows and columns of the phantoms, more than the model's own: a cart gets larger images than it needs."""

CLIP = "examples_ybr_color.dcm"

_EACH = 5
_SEED = 8_000_000  # training counts its seeds from 0
_KINDS = ("PNG", "DICOM", "DICOM MONO1")


@dataclass(frozen=True)
class Case:
    """A file to drop. ``truth`` is None where the model has no business with it; ``identities`` are those of
    its frames, from which the cart makes the ids of their findings."""

    path: Path
    what: str
    truth: str | None
    negative_label: str
    identities: tuple[str, ...]


def write_cases(folder: Path) -> list[Case]:
    """Write the files into ``folder``: five phantoms of each label in turn, and last the clip.

    Raises:
        ScanwrightError: the clip is missing from the installed pydicom.
    """
    labels = LABELS["chest"]
    cases = []
    for number in range(_EACH * len(labels)):
        label, kind = labels[number % len(labels)], _KINDS[number % len(_KINDS)]
        path = folder / f"phantom-{number + 1:02d}{'.png' if kind == 'PNG' else '.dcm'}"
        patient, exposure = np.random.SeedSequence([_SEED, number]).spawn(2)
        pixels = phantom("chest", label, patient, exposure, SIDE).pixels
        if kind == "PNG":
            cv2.imwrite(str(path), pixels)
        else:
            write_dicom(path, pixels, "DX", "CHEST", number=number, view="PA", inverted=kind.endswith("1"))
        cases.append(_case(path, f"{number + 1:02d} {kind}", label))
    cases.append(_case(_clip(folder), "ultrasound clip", None))
    return cases


def _clip(folder: Path) -> Path:
    shipped = get_testdata_file(CLIP, download=False)
    if shipped is None:
        raise ScanwrightError(f"the installed pydicom ships no {CLIP}; install pydicom again")
    path = folder / "ultrasound-clip.dcm"
    shutil.copyfile(str(shipped), path)
    return path


def _case(path: Path, what: str, truth: str | None) -> Case:
    identities = tuple(frame.identity for frame in decode_file(path, "demo"))
    return Case(path, what, truth, LABELS["chest"][0], identities)
