"""From a file to frames: what it is, its content says, never its name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from edge.bundle.reasons import Reason
from edge.imaging.errors import UnreadableImageError
from edge.imaging.frame import Frame, Pixels
from edge.imaging.images import decode_bytes
from edge.imaging.limits import MAX_FILE_BYTES

__all__ = ["decode_file", "decode_image"]


def decode_image(path: Path) -> Pixels:
    """Decode an image file that is no DICOM; how, :func:`edge.imaging.images.decode_bytes` says.

    Returns:
        uint8 ``[H, W]``, or RGB ``[H, W, 3]``.

    Raises:
        UnreadableImageError: the file cannot be read or is no image of a kind read here.
    """
    return decode_bytes(_read(path), str(path))


def decode_file(path: Path, source: str) -> Iterator[Frame]:
    """Decode a DICOM file, frame by frame, or an image file.

    The frames of a DICOM file are decoded one at a time, as they are asked for; where the file turns out
    to be damaged in the middle, those before have been yielded.

    Args:
        path: the file. It must not change until the iterator is exhausted or closed.
        source: what the frames name as their source.

    Yields:
        Frames with identity ``sop:<SOP Instance UID>#<index>`` and the Study Instance UID as study, or, for
        an image, ``sha256:<of the file's bytes>#0`` as both.

    Raises:
        UnreadableImageError: on the first ``next``, or at the frame that cannot be decoded.
    """
    try:
        with path.open("rb") as file:
            is_dicom = file.read(132)[128:] == b"DICM"
    except OSError as error:
        raise UnreadableImageError(f"{path}: cannot be read ({error.strerror})") from error
    if is_dicom:
        from edge.imaging.dicom import decode_dicom

        yield from decode_dicom(path, source)
        return
    data = _read(path)
    identity = f"sha256:{hashlib.sha256(data).hexdigest()}#0"
    yield Frame(decode_bytes(data, str(path)), identity, identity, source)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnreadableImageError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > MAX_FILE_BYTES:
        raise UnreadableImageError(
            f"{path}: more than {MAX_FILE_BYTES >> 20} MiB: too large to be read here", Reason.TOO_LARGE
        )
    return data
