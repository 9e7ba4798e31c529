"""Whose image it is: read from a DICOM header for the device's own encrypted table, and for nothing else."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.valuerep import PersonName

from edge.imaging.dicom import DAMAGE
from edge.imaging.errors import UnreadableImageError

__all__ = ["Patient", "is_dicom", "read_instance", "read_patient"]

_LONGEST = 324  # characters of a person name: three groups of 64 characters and what separates them, and more
_TAGS = ("PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID", "StudyDate", "StudyDescription")
# They turn the reading direction of what stands around them: no name needs them.
_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Patient:
    """Who an image is of, as its header says; "" where that says nothing.

    The three groups of a name (PS3.5 6.2.1.1) are kept apart, their components still parted by ``^``.
    """

    alphabetic: str
    ideographic: str
    phonetic: str
    id: str
    accession: str
    study_uid: str
    study_date: str
    description: str

    @property
    def known(self) -> bool:
        """Whether there is anything that a person could tell the patient by."""
        return any((self.alphabetic, self.ideographic, self.phonetic, self.id, self.accession))


def is_dicom(path: Path) -> bool:
    """Whether a file is a DICOM file (PS3.10 7.1), by its content.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


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
