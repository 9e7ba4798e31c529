"""Whose image it is, and which, as its DICOM header says."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.valuerep import PersonName

from edge.imaging.dicom import DAMAGE
from edge.imaging.errors import UnreadableImageError
from edge.imaging.patient import Patient

__all__ = ["read_instance", "read_patient"]

_LONGEST = 324  # characters of a person name: three groups of 64 characters and what separates them, and more
_TAGS = ("PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID", "StudyDate", "StudyDescription")
# They turn the reading direction of what stands around them: no name needs them.
_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def read_patient(path: Path) -> Patient:
    """The patient of a DICOM file, in whatever Specific Character Set (0008,0005), as Unicode.

    Raises:
        UnreadableImageError: the header is damaged.
        OSError: the file cannot be read.
    """
    try:
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=[*_TAGS, "SpecificCharacterSet"])
        name = dataset.get("PatientName") or ""
        groups = name if isinstance(name, PersonName) else PersonName(str(name))
        return Patient(
            _clean(groups.alphabetic),
            _clean(groups.ideographic),
            _clean(groups.phonetic),
            *(_text(dataset, tag) for tag in _TAGS[1:]),
        )
    except DAMAGE as error:
        raise UnreadableImageError(f"{path}: the DICOM header is damaged ({type(error).__name__})") from error


def read_instance(path: Path) -> str:
    """The SOP Instance UID of a DICOM file; "" where it has none.

    Raises:
        UnreadableImageError: the header is damaged.
        OSError: the file cannot be read.
    """
    try:
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
        return str(dataset.get("SOPInstanceUID") or "")
    except DAMAGE as error:
        raise UnreadableImageError(f"{path}: the DICOM header is damaged ({type(error).__name__})") from error


def _text(dataset: Dataset, tag: str) -> str:
    return _clean(str(dataset.get(tag) or ""))


def _clean(text: str) -> str:
    seen = "".join(c if unicodedata.category(c) not in ("Cc", "Cs") else " " for c in _TURNS.sub("", text))
    return " ".join(seen.split())[:_LONGEST]
