"""Image files in folders: which files count as images, and what of them is known without decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.errors import BadInputError

__all__ = ["Contents", "Unreadable", "contents", "image_files", "subfolders"]

Unreadable = tuple[Path, str]
"""A file that cannot be used as an image, and why, as one line."""

_SUFFIXES = {
    f".{suffix}" for suffix in ("png", "jpg", "jpeg", "jpe", "jp2", "bmp", "dib", "tif", "tiff", "webp")
}
_SUFFIXES |= {f".{suffix}" for suffix in ("gif", "pgm", "ppm", "pnm", "pbm", "dcm", "dicom", "ima")}
_MOST_FRAMES = 10_000  # a header that claims more is left to the decoder, to refuse


@dataclass(frozen=True)
class Contents:
    """What a file's header tells: ``frames`` in it (at least 1) and the DICOM Patient ID, where it has
    one."""

    frames: int = 1
    patient: str | None = None


def image_files(folder: Path) -> list[Path]:
    """Files below ``folder``, at any depth and sorted, that mean to be images.

    Those are files with an image's suffix, readable or not, and DICOM files of any name. Hidden files and
    folders and everything else (``Thumbs.db``, ``README.txt``) are passed over.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder).parts
        if any(_hidden(part) for part in inner) or not path.is_file():
            continue
        if path.suffix.lower() in _SUFFIXES or _is_dicom(path):
            found.append(path)
    return found


def subfolders(folder: Path) -> list[Path]:
    """Folders directly in ``folder``, sorted, without hidden ones (``.git``, ``__MACOSX``)."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _hidden(path.name))


def contents(path: Path) -> Contents:
    """Look into the file's header, without decoding pixels.

    Raises:
        BadInputError: the file is no image at all (empty, text, …); UnreadableImageError from the decoder,
            whose reason it is.
    """
    if _is_dicom(path):
        import pydicom
        from pydicom.errors import InvalidDicomError

        try:
            header = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=["NumberOfFrames", "PatientID"]
            )
            frames = int(header.get("NumberOfFrames") or 1)
            patient = str(header.get("PatientID") or "").strip() or None
        except (InvalidDicomError, OSError, EOFError, ValueError, TypeError, AttributeError):
            return Contents()  # whatever is wrong, decoding will say it
        return Contents(frames if 1 <= frames <= _MOST_FRAMES else 1, patient)
    import cv2

    if not cv2.haveImageReader(str(path)):
        from edge.imaging.decode import decode_file

        if next(decode_file(path, "data"), None) is None:
            raise BadInputError(f"{path}: holds no image")
    return Contents()


def _hidden(name: str) -> bool:
    return name.startswith((".", "__"))


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == b"DICM"
    except OSError:
        return False
