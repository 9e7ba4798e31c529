"""Writes phantoms as class folders of PNG or DICOM files, or with a labels.csv."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ScanwrightError
from edge.imaging.frame import Pixels
from trainer.data.phantoms import chest
from trainer.data.phantoms.dicom import BodyPart, Modality, write_dicom
from trainer.data.phantoms.generate import LABELS, Kind, Phantom, phantom
from trainer.data.table import TABLE

__all__ = ["OBJECTS", "write_multilabel", "write_phantoms"]

OBJECTS: dict[Kind, tuple[Modality, BodyPart]] = {
    "chest": ("DX", "CHEST"),
    "pneumonia": ("DX", "CHEST"),
    "covid": ("DX", "CHEST"),
    "ultrasound": ("US", "BREAST"),
    "cardiac": ("US", "HEART"),
    "lung-ct": ("CT", "CHEST"),
    "brain-mri": ("MR", "BRAIN"),
    "fracture": ("DX", "EXTREMITY"),
}
"""Modality and body part of each kind; EEG spectrograms are no DICOM objects."""

_Job = tuple[Path, Kind, str, np.random.SeedSequence, np.random.SeedSequence, int]

SHOTS = 2  # images of one patient, so that splitting by patient has something to keep together


def write_phantoms(
    out: Path,
    kind: Kind,
    counts: Mapping[str, int],
    seed: int,
    size: int = 128,
    advance: Callable[[], object] = lambda: None,
    shots: int = SHOTS,
    workers: int = 1,
    dicom: bool = False,
) -> int:
    """Write class folders ``out/<split>/<label>/patient00012_1.png``, or ``.dcm``.

    ``counts`` has the images of each label by split, as ``{"train": 40, "val": 8}``. ``shots`` images each
    are of one patient, and every patient is in one split only. The same arguments give the same files.
    ``advance`` is called after each file; returned is how many there are. More than one of ``workers`` are
    processes.

    Raises:
        ScanwrightError: a file cannot be written.
        ValueError: there is no DICOM object for this kind.
    """
    if dicom and kind not in OBJECTS:
        raise ValueError(f"there is no DICOM object for {kind} phantoms")
    people = np.random.SeedSequence(seed)
    jobs: list[_Job] = []
    patients = 0
    for split, count in counts.items():
        for label in LABELS[kind]:
            folder = out / split / label
            _make(folder)
            for first in range(0, count, shots):
                patient, *exposures = people.spawn(1)[0].spawn(1 + min(shots, count - first))
                for number, exposure in enumerate(exposures, 1):
                    path = folder / f"patient{patients:05d}_{number}.{'dcm' if dicom else 'png'}"
                    jobs.append((path, kind, label, patient, exposure, size))
                patients += 1
    with ExitStack() as stack:
        shoot: Iterable[None] = map(_shoot, jobs)
        if workers > 1:
            pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
            shoot = stack.enter_context(pool).map(_shoot, jobs, chunksize=8)
        for _ in shoot:
            advance()
    return len(jobs)


def _shoot(job: _Job) -> None:
    path, kind, label, patient, exposure, size = job
    still = phantom(kind, label, patient, exposure, size)
    if path.suffix == ".png":
        _write(path, _png(still.pixels))
        return
    modality, body_part = OBJECTS[kind]
    person = int(path.stem.removeprefix("patient").split("_")[0])
    write_dicom(path, _stored(still), modality, body_part, number=person)


def _stored(still: Phantom) -> NDArray[Any]:
    return still.pixels if still.hounsfield is None else np.rint(still.hounsfield).astype(np.int16)


def write_multilabel(out: Path, counts: Mapping[str, int], seed: int, size: int = 128) -> int:
    """Write chest radiographs with no, one or several findings, ``out/images/patient00012_1.png``, and
    ``out/labels.csv``; returned is how many.

    ``counts`` has the images of each split; two each are of one patient. A finding is in a third of them.

    Raises:
        ScanwrightError: a file cannot be written.
    """
    _make(out / "images")
    rows = ["path,labels,patient,split"]
    people = np.random.SeedSequence(seed)
    findings = chest.LABELS[1:]
    for split, count in counts.items():
        for first in range(0, count, SHOTS):
            patient, *exposures = people.spawn(1)[0].spawn(1 + min(SHOTS, count - first))
            present = np.random.default_rng(patient.spawn(1)[0]).random(len(findings)) < 1 / 3
            found = tuple(label for label, there in zip(findings, present, strict=True) if there)
            person = f"patient{people.n_children_spawned - 1:05d}"
            for number, exposure in enumerate(exposures, 1):
                path = f"images/{person}_{number}.png"
                _write(out / path, _png(chest.radiograph(found, patient, exposure, size).pixels))
                rows.append(f"{path},{';'.join(found)},{person},{split}")
    _write(out / TABLE, ("\n".join(rows) + "\n").encode())
    return len(rows) - 1


def _png(pixels: Pixels) -> bytes:
    done, data = cv2.imencode(".png", pixels)
    if not done:
        raise ScanwrightError("a phantom could not be encoded as PNG")
    return data.tobytes()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ScanwrightError(f"{folder}: cannot be made ({error.strerror})") from error


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ScanwrightError(f"{path}: cannot be written ({error.strerror})") from error
