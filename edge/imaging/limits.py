"""How large an image may be: checked from its header, before anything is decoded."""

from __future__ import annotations

from edge.bundle.reasons import Reason
from edge.imaging.errors import UnreadableImageError

__all__ = ["MAX_FILE_BYTES", "MAX_FRAME_SAMPLES", "MAX_SAMPLES", "check_size"]

MAX_FRAME_SAMPLES = 2**26
"""Rows x columns x samples a pixel of one frame: 8192 x 8192 gray, or a 22 megapixel photograph."""
MAX_SAMPLES = 2**31
"""The same of all frames of a file: about 2300 frames of 640 x 480 in colour."""
MAX_FILE_BYTES = 8 * MAX_FRAME_SAMPLES
"""Of an image file that is no DICOM file, which is read at once."""


def check_size(name: str, rows: int, columns: int, samples: int, frames: int = 1) -> None:
    """Refuse what is empty or larger than the limits.

    Args:
        name: of the file, for the message.
        rows, columns: of a frame. samples: values a pixel. frames: in the file.

    Raises:
        UnreadableImageError: reason ``unreadable`` (no pixels at all) or ``too_large``.
    """
    if min(rows, columns, samples, frames) < 1:
        raise UnreadableImageError(f"{name}: the header describes an image without pixels")
    frame = rows * columns * samples
    if frame > MAX_FRAME_SAMPLES or frame * frames > MAX_SAMPLES:
        size = f"{rows} x {columns} pixels" + (f", {frames} frames" if frames > 1 else "")
        raise UnreadableImageError(f"{name}: {size}: too large to be read here", Reason.TOO_LARGE)
