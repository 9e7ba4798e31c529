"""DICOM files, stills and cine, to frames: checked from the header before anything is decoded."""

from __future__ import annotations

import hashlib
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import gdcm
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.config import IGNORE, settings
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels, pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, JPEGExtended12Bit, RLELossless

from edge.bundle.reasons import Reason
from edge.imaging.dicom_display import DISPLAY_ATTRIBUTES, Display
from edge.imaging.dicom_screen import ScanCut
from edge.imaging.errors import UnreadableImageError
from edge.imaging.frame import Frame, Header
from edge.imaging.limits import check_size
from edge.imaging.spacing import SPACING_ATTRIBUTES, pixel_spacing_mm

__all__ = ["DAMAGE", "age_years", "decode_dicom"]

# Their messages quote what the header holds, which may be a person's; what matters is raised here.
settings.reading_validation_mode = IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
gdcm.Trace.DebugOff()
gdcm.Trace.WarningOff()
gdcm.Trace.ErrorOff()

# What pydicom, gdcm and numpy were seen, or are documented, to raise on files that are not as they should be.
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_HEADER_ATTRIBUTES = (
    "Modality",
    "BodyPartExamined",
    "ViewPosition",
    "PatientAge",
    "PresentationIntentType",
    "BurnedInAnnotation",
    "SequenceOfUltrasoundRegions",
)
_PIXEL_ATTRIBUTES = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PlanarConfiguration",
    "BitsAllocated",
)
_PHOTOMETRIC = (
    "MONOCHROME1",
    "MONOCHROME2",
    "PALETTE COLOR",
    "RGB",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_ICT",
    "YBR_RCT",
)
_PIXEL_DATA = (0x7FE0, 0x0010)
_ITEM, _SEQUENCE_DELIMITER = 0xE000, 0xE0DD
_UNDEFINED = 0xFFFFFFFF


def decode_dicom(path: Path, source: str) -> Iterator[Frame]:
    """Decode a DICOM file's frames, one at a time, to what a viewer shows: see ``dicom_display``.

    Of the header nothing is read but what decoding and display need, the UIDs, Modality (0008,0060), Body
    Part Examined (0018,0015), View Position (0018,5101), Patient's Age (0010,1010), how large a pixel is
    (``spacing``), and what ``dicom_screen`` cuts an ultrasound machine's screen to the scan by. A frame that
    is For Processing (0008,0068), the one before it again to the last bit, or a screen in which no scan is
    found has a ``reason``.

    Raises:
        UnreadableImageError: not DICOM, damaged, cut off, without pixel data, too large, or of a kind not
            read here (deflated, 32-bit, a transfer syntax or photometric interpretation without decoder).
    """
    try:
        with path.open("rb") as file:
            yield from _frames(file, path, source)
    except OSError as error:
        raise UnreadableImageError(f"{path}: cannot be read ({error.strerror})") from error
    except MemoryError as error:
        raise UnreadableImageError(f"{path}: the DICOM file asks for more memory than there is") from error
    except DAMAGE as error:
        kind = type(error).__name__
        raise UnreadableImageError(
            f"{path}: the DICOM file is damaged or not to the standard ({kind})"
        ) from error


def age_years(text: str) -> float | None:
    """An Age String (PS3.5 6.2: ``018M``, units D, W, M or Y) in years; None if it is none."""
    found = re.fullmatch(r"(\d{3})([DWMY])", text.strip())
    if not found:
        return None
    return int(found[1]) / {"D": 365.25, "W": 365.25 / 7, "M": 12, "Y": 1}[found[2]]


def _frames(file: BinaryIO, path: Path, source: str) -> Iterator[Frame]:
    syntax = _transfer_syntax(path)
    wanted = [*_HEADER_ATTRIBUTES, *_PIXEL_ATTRIBUTES, *DISPLAY_ATTRIBUTES, *SPACING_ATTRIBUTES]
    dataset = dcmread(
        file, stop_before_pixels=True, specific_tags=["SOPInstanceUID", "StudyInstanceUID", *wanted]
    )
    count = _check(file, dataset, syntax, str(path))
    key = _uid(dataset, "SOPInstanceUID")
    identity = f"sha256:{_digest(file)}" if key is None else f"sop:{key}"
    study = _uid(dataset, "StudyInstanceUID") or identity
    row_mm, column_mm = pixel_spacing_mm(dataset) or (None, None)
    header = Header(
        modality=_term(dataset, "Modality"),
        body_part=_term(dataset, "BodyPartExamined"),
        view=_term(dataset, "ViewPosition"),
        age_years=age_years(str(dataset.get("PatientAge") or "")),
        row_spacing_mm=row_mm,
        column_spacing_mm=column_mm,
    )
    plugin = "" if not syntax.is_encapsulated else "pydicom" if syntax == RLELossless else "gdcm"

    still = [pixel_array(file, decoding_plugin=plugin)] if count == 1 else []

    def decoded() -> Iterator[NDArray[Any]]:
        return iter(still) if still else islice(iter_pixels(file, decoding_plugin=plugin), count)

    display = Display(dataset)
    if display.needs_range:
        display.fit_range(decoded())
    raw = dataset.get("PresentationIntentType") == "FOR PROCESSING"
    scan, last = ScanCut(dataset), None
    for index, stored in enumerate(decoded()):
        pixels, reason = scan.of(display.show(stored, index))
        if last is not None and np.array_equal(last, stored):
            reason = Reason.FROZEN
        last = stored
        if raw:
            reason = Reason.FOR_PROCESSING
        yield Frame(pixels, f"{identity}#{index}", study, source, index, header, reason=reason)


def _transfer_syntax(path: Path) -> UID:
    syntax = read_file_meta_info(path).get("TransferSyntaxUID")
    if not syntax:
        raise UnreadableImageError(f"{path}: the DICOM file does not name its transfer syntax")
    syntax = UID(syntax)
    # Before the data set is read: reading a deflated one would inflate it, to whatever size.
    if syntax == DeflatedExplicitVRLittleEndian:
        raise UnreadableImageError(f"{path}: a deflated DICOM file is not read here; send it not deflated")
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        decoder = None
    if decoder is None or not decoder.is_available:
        raise UnreadableImageError(f"{path}: there is no decoder for transfer syntax {_safe_name(syntax)}")
    return syntax


def _safe_name(syntax: UID) -> str:
    return syntax.name if re.fullmatch(r"[\d.]{1,64}", syntax) else "(not a UID)"


def _check(file: BinaryIO, dataset: Dataset, syntax: UID, name: str) -> int:
    """Refuse what cannot or must not be decoded; returns how many frames there are."""
    start = file.read(8)
    order = "<" if syntax.is_little_endian else ">"
    if len(start) < 8 or struct.unpack(order + "HH", start[:4]) != _PIXEL_DATA:
        kind = "" if len(start) < 8 else " of integers"
        raise UnreadableImageError(f"{name}: the DICOM file has no pixel data{kind}, or is cut off before it")
    photometric = dataset.get("PhotometricInterpretation")
    if photometric not in _PHOTOMETRIC:
        raise UnreadableImageError(f"{name}: a photometric interpretation that is not read here")
    bits, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if bits not in (8, 16) or not 1 <= stored <= bits:
        raise UnreadableImageError(f"{name}: {bits} bits a sample ({stored} stored); 8 or 16 are read here")
    samples, frames = int(dataset.SamplesPerPixel), int(dataset.get("NumberOfFrames") or 1)
    check_size(name, int(dataset.Rows), int(dataset.Columns), samples, frames)
    if not syntax.is_implicit_VR:
        file.seek(4, 1)
    if syntax == JPEGExtended12Bit and stored != 8:
        raise UnreadableImageError(f"{name}: there is no decoder for {syntax.name} with {stored} bits")
    if syntax.is_encapsulated:
        if _fragments(file, name) < frames:
            raise UnreadableImageError(f"{name}: the DICOM file holds fewer than its {frames} frames")
        return frames
    samples_stored = 2 if photometric == "YBR_FULL_422" else samples
    expected = dataset.Rows * dataset.Columns * samples_stored * frames * bits // 8
    position = file.tell()
    if file.seek(0, 2) - position < expected:
        raise UnreadableImageError(f"{name}: the DICOM file is cut off in its pixel data")
    return frames


def _fragments(file: BinaryIO, name: str) -> int:
    """How many fragments follow the offset table, up to the delimiter that must end them (PS3.5 A.4)."""
    count = -1
    while len(head := file.read(8)) == 8:
        group, element, length = struct.unpack("<HHI", head)
        if (group, element) == (0xFFFE, _SEQUENCE_DELIMITER):
            return count
        if (group, element) != (0xFFFE, _ITEM) or length == _UNDEFINED:
            raise UnreadableImageError(f"{name}: the DICOM file is damaged in its pixel data")
        file.seek(length, 1)
        count += 1
    raise UnreadableImageError(f"{name}: the DICOM file is cut off in its pixel data")


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _uid(dataset: Dataset, name: str) -> str | None:
    text = str(dataset.get(name) or "")
    return text if re.fullmatch(r"[\d.]{1,64}", text) else None


def _term(dataset: Dataset, name: str) -> str | None:
    """A Code String (PS3.5 6.2), or None where there is none or it is something else."""
    text = str(dataset.get(name) or "").strip().upper()
    return text if re.fullmatch(r"[A-Z0-9 _]{1,16}", text) else None
