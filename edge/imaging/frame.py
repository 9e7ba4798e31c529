"""Frame: pixels, with where they came from and what the header says of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.bundle.reasons import Reason

__all__ = ["Frame", "Header", "Pixels"]

Pixels = NDArray[np.uint8]
"""uint8 ``[H, W]`` (gray, black is 0) or ``[H, W, 3]`` (RGB)."""


@dataclass(frozen=True)
class Header:
    """The allow-list: all that is kept of an image's header. Nothing here identifies a patient.

    Row and column spacing are the height and the width of a pixel in the patient.
    """

    modality: str | None = None
    body_part: str | None = None
    view: str | None = None
    age_years: float | None = None
    row_spacing_mm: float | None = None
    column_spacing_mm: float | None = None


@dataclass(frozen=True)
class Frame:
    """One image on its way to a finding.

    ``identity`` and ``study`` name the image and its group (SOP and Study Instance UID, a hash of the
    file's bytes, a stream and a count). They may identify a patient: they stay in the process, and only keyed
    hashes of them are stored or sent. ``test`` marks practice and self-tests.
    """

    pixels: Pixels
    identity: str
    study: str
    source: str
    index: int = 0
    header: Header = field(default=Header())
    test: bool = False
    reason: Reason | None = None
    live: bool = False
