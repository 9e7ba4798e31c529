"""Writes phantoms as PNG class folders and as DICOM objects, for demonstrations and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from edge.errors import ScanwrightError
from edge.imaging.frame import Pixels
from trainer.data.phantoms.generate import LABELS, Kind, phantom

__all__ = ["write_dicom", "write_phantoms"]

REGIONS = {"CHEST": ("51185008", "Chest"), "BREAST": ("76752008", "Breast")}
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
) -> int:
    """Write class folders ``out/<split>/<label>/patient00012_1.png``.

    ``counts`` has the images of each label by split, as ``{"train": 40, "val": 8}``. ``shots`` images each
    are of one patient, and every patient is in one split only. The same arguments give the same files.
    ``advance`` is called after each file; returned is how many there are. More than one of ``workers`` are
    processes.

    Raises:
        ScanwrightError: a file cannot be written.
    """
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
                    path = folder / f"patient{patients:05d}_{number}.png"
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
    _write(path, _png(phantom(kind, label, patient, exposure, size).pixels))


def write_dicom(
    path: Path,
    pixels: NDArray[np.uint8] | NDArray[np.uint16],
    modality: Literal["DX", "US"],
    body_part: Literal["CHEST", "BREAST"],
    *,
    number: int = 1,
    view: str | None = None,
    inverted: bool = False,
    frame_ms: float = 40,
    seed: int = 0,
) -> str:
    """Write one DICOM object (PS3.3 A.26 DX for presentation, A.6 US, A.7 US multi-frame) of no real person.

    The patient is called ``PHANTOM^`` and ``number``. Window and photometric interpretation follow the
    pixels.

    Args:
        path: the file to write.
        pixels: DX: uint8 ``[h, w]`` (scaled to 12 bits) or uint16 ``[h, w]`` of at most 4095; US: uint8
            ``[h, w]``, ``[t, h, w]`` for a clip, RGB ``[h, w, 3]``.
        modality: "DX" or "US".
        body_part: Body Part Examined: "CHEST" or "BREAST".
        number: the patient's; objects of one patient are of one study.
        view: View Position of a DX, as PA.
        inverted: DX: stored as MONOCHROME1, bone low; it looks the same.
        frame_ms: of a clip.
        seed: with the pixels, gives the identifiers: the same arguments give the same file.

    Returns:
        The SOP Instance UID.

    Raises:
        ValueError: pixels of another type or shape.
        ScanwrightError: the file cannot be written.
    """
    fits = pixels.ndim == 2 if modality == "DX" else pixels.dtype == np.uint8 and pixels.ndim in (2, 3)
    if not fits or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{modality} cannot hold {pixels.dtype} {list(pixels.shape)}")
    colour = modality == "US" and pixels.ndim == 3 and pixels.shape[-1] == 3
    clip = modality == "US" and pixels.ndim == 3 and not colour
    entropy = [str(seed), str(number)]
    instance = generate_uid(entropy_srcs=[*entropy, str(pixels.shape), pixels.tobytes().hex()])

    meta = FileMetaDataset()
    still = DigitalXRayImageStorageForPresentation if modality == "DX" else UltrasoundImageStorage
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage if clip else still
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, instance
    ds.PatientName, ds.PatientID = f"PHANTOM^{number:05d}", f"PHANTOM-{number:05d}"
    ds.PatientBirthDate, ds.PatientSex = "", "O"
    ds.StudyInstanceUID = generate_uid(entropy_srcs=[*entropy, "study"])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=[*entropy, "series", modality, str(clip)])
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber, ds.AccessionNumber = str(number), 1, 1, ""
    ds.StudyDate, ds.StudyTime, ds.ContentDate, ds.ContentTime = "20000101", "000000", "20000101", "000000"
    ds.Modality, ds.BodyPartExamined, ds.ReferringPhysicianName = modality, body_part, ""
    ds.Manufacturer, ds.SeriesDescription = "scanwright phantom", "GENERATED, NOT A PATIENT"
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.PatientOrientation = ["L", "F"] if modality == "DX" else ""
    ds.BurnedInAnnotation = "NO"
    ds.SamplesPerPixel = 3 if colour else 1
    ds.Rows, ds.Columns = pixels.shape[1:3] if clip else pixels.shape[:2]
    if modality == "DX":
        _describe_dx(ds, pixels, view, inverted)
    else:
        ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        if colour:
            ds.PlanarConfiguration = 0
        else:
            ds.WindowCenter, ds.WindowWidth = 128, 256  # shown as it is
        if clip:
            ds.NumberOfFrames, ds.FrameTime = len(pixels), frame_ms
            ds.FrameIncrementPointer = 0x00181063  # Frame Time
        _store(ds, pixels, bits=8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
    except OSError as error:
        raise ScanwrightError(f"{path}: cannot be written ({error.strerror})") from error
    return str(instance)


def _describe_dx(ds: FileDataset, pixels: NDArray[Any], view: str | None, inverted: bool) -> None:
    values = pixels
    if pixels.dtype == np.uint8:
        values = ((pixels.astype(np.uint32) * 4095 + 127) // 255).astype(np.uint16)
    if values.max(initial=0) > 4095:
        raise ValueError("DX pixels have 12 bits: at most 4095")
    ds.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    ds.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", 1 if inverted else -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.LossyImageCompression, ds.ImageLaterality, ds.DetectorType = "00", "U", "DIRECT"
    ds.AnatomicRegionSequence = [_region(ds.BodyPartExamined)]
    ds.ImagerPixelSpacing = [round(360 / side, 4) for side in pixels.shape]
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = 2048, 4096, "LINEAR"
    ds.AcquisitionContextSequence = []
    if view:
        ds.ViewPosition = view
    _store(ds, 4095 - values if inverted else values, bits=12)


def _region(body_part: str) -> Dataset:
    """The body part as a coded concept (PS3.16 Annex L)."""
    code = Dataset()
    code.CodeValue, code.CodeMeaning = REGIONS[body_part]
    code.CodingSchemeDesignator = "SCT"
    return code


def _store(ds: FileDataset, values: NDArray[Any], bits: int) -> None:
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 if bits == 8 else 16, bits, bits - 1
    ds.PixelRepresentation = 0
    data = np.ascontiguousarray(values).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)


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
