"""Writes one DICOM object of no real person: DX, US, CT or MR."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MRImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from edge.errors import ScanwrightError
from trainer.data.phantoms import lung_ct

__all__ = ["BodyPart", "Modality", "write_dicom"]

Modality = Literal["DX", "US", "CT", "MR"]
BodyPart = Literal["CHEST", "BREAST", "HEART", "BRAIN", "EXTREMITY"]
REGIONS = {
    "CHEST": ("51185008", "Chest", 360),
    "BREAST": ("76752008", "Breast", 40),
    "HEART": ("80891009", "Heart", 200),
    "BRAIN": ("12738006", "Brain", 220),
    "EXTREMITY": ("66019005", "Extremity", 145),
}
"""Code and meaning (SNOMED CT, PS3.16 Annex L), and about how wide an image is, in mm."""

STILLS = {
    "DX": DigitalXRayImageStorageForPresentation,
    "US": UltrasoundImageStorage,
    "CT": CTImageStorage,
    "MR": MRImageStorage,
}


def write_dicom(
    path: Path,
    pixels: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.int16],
    modality: Modality,
    body_part: BodyPart,
    *,
    number: int = 1,
    view: str | None = None,
    inverted: bool = False,
    frame_ms: float = 40,
    seed: int = 0,
) -> str:
    """Write one DICOM object of no real person (PS3.3 A.26 DX for presentation, A.6 US, A.7 US multi-frame,
    A.3 CT, A.4 MR).

    The patient is called ``PHANTOM^`` and ``number``. Window and photometric interpretation follow the
    pixels.

    Args:
        path: the file to write.
        pixels: DX and MR: uint8 ``[h, w]`` (scaled to 12 bits) or uint16 ``[h, w]`` of at most 4095; CT:
            int16 ``[h, w]``, Hounsfield units from -1024 on, shown in the window of the CT phantoms; US:
            uint8 ``[h, w]``, ``[t, h, w]`` for a clip, RGB ``[h, w, 3]``.
        modality: Modality.
        body_part: Body Part Examined.
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
    kinds = {"US": (np.uint8,), "CT": (np.int16,)}.get(modality, (np.uint8, np.uint16))
    if pixels.dtype not in kinds or pixels.ndim not in ((2, 3) if modality == "US" else (2,)):
        raise ValueError(f"{modality} cannot hold {pixels.dtype} {list(pixels.shape)}")
    colour = modality == "US" and pixels.ndim == 3 and pixels.shape[-1] == 3
    clip = modality == "US" and pixels.ndim == 3 and not colour
    entropy = [str(seed), str(number)]
    instance = generate_uid(entropy_srcs=[*entropy, str(pixels.shape), pixels.tobytes().hex()])

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage if clip else STILLS[modality]
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
    elif modality == "CT":
        _describe_ct(ds, pixels)
    elif modality == "MR":
        _describe_mr(ds, pixels)
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
    values = _twelve_bits(ds, pixels)
    ds.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    ds.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", 1 if inverted else -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.LossyImageCompression, ds.ImageLaterality, ds.DetectorType = "00", "U", "DIRECT"
    ds.AnatomicRegionSequence = [_region(ds.BodyPartExamined)]
    ds.ImagerPixelSpacing = _spacing(ds)
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = 2048, 4096, "LINEAR"
    ds.AcquisitionContextSequence = []
    if view:
        ds.ViewPosition = view
    _store(ds, 4095 - values if inverted else values, bits=12)


def _twelve_bits(ds: FileDataset, pixels: NDArray[Any]) -> NDArray[np.uint16]:
    values = pixels
    if pixels.dtype == np.uint8:
        values = (pixels.astype(np.uint32) * 4095 + 127) // 255
    if values.max(initial=0) > 4095:
        raise ValueError(f"{ds.Modality} pixels have 12 bits: at most 4095")
    return values.astype(np.uint16)


def _spacing(ds: FileDataset) -> list[float]:
    width_mm = REGIONS[ds.BodyPartExamined][2]
    return [round(width_mm / ds.Rows, 4), round(width_mm / ds.Columns, 4)]


def _describe_slice(ds: FileDataset) -> None:
    """The frame of reference and the image plane (C.7.4.1, C.7.6.2): an axial slice, head first."""
    ds.FrameOfReferenceUID = generate_uid(entropy_srcs=[ds.StudyInstanceUID, "frame of reference"])
    ds.PositionReferenceIndicator, ds.PatientPosition = "", "HFS"
    ds.ImageOrientationPatient, ds.PatientOrientation = [1, 0, 0, 0, 1, 0], ["L", "P"]
    ds.PixelSpacing, ds.SliceThickness = _spacing(ds), 5
    half_mm = REGIONS[ds.BodyPartExamined][2] / 2
    ds.ImagePositionPatient = [-half_mm, -half_mm, 0]
    ds.PhotometricInterpretation = "MONOCHROME2"


def _describe_ct(ds: FileDataset, pixels: NDArray[Any]) -> None:
    _describe_slice(ds)
    ds.ImageType, ds.KVP, ds.AcquisitionNumber = ["DERIVED", "PRIMARY", "AXIAL"], 120, 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
    ds.WindowCenter, ds.WindowWidth = lung_ct.WINDOW
    ds.VOILUTFunction = "LINEAR_EXACT"
    _store(ds, (pixels.astype(np.int32) + 1024).clip(0, 4095).astype(np.uint16), bits=12)


def _describe_mr(ds: FileDataset, pixels: NDArray[Any]) -> None:
    _describe_slice(ds)
    ds.ImageType = ["DERIVED", "PRIMARY", "OTHER"]
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "SE", "NONE", "", "2D"
    ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength = 500, 12, 1
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = 2048, 4096, "LINEAR"
    _store(ds, _twelve_bits(ds, pixels), bits=12)


def _region(body_part: str) -> Dataset:
    """The body part as a coded concept (PS3.16 Annex L)."""
    code = Dataset()
    code.CodeValue, code.CodeMeaning, _ = REGIONS[body_part]
    code.CodingSchemeDesignator = "SCT"
    return code


def _store(ds: FileDataset, values: NDArray[Any], bits: int) -> None:
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 if bits == 8 else 16, bits, bits - 1
    ds.PixelRepresentation = 0
    data = np.ascontiguousarray(values).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
