"""Whose image it is: for the device's own encrypted table, and for nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Patient", "is_dicom"]


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
