"""How large a pixel is, as a DICOM header says."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pydicom import Dataset

__all__ = ["SPACING_ATTRIBUTES", "pixel_spacing_mm"]

SPACING_ATTRIBUTES = ("PixelSpacing", "SequenceOfUltrasoundRegions")
"""Keywords of the attributes that :func:`pixel_spacing_mm` reads."""

_TWO_DIMENSIONAL, _CENTIMETRES = 1, 3  # PS3.3 C.8.5.5.1.1 and C.8.5.5.1.15
_ALIKE = 0.01
_PLAUSIBLE_MM = (0.001, 10.0)


def pixel_spacing_mm(dataset: Dataset) -> tuple[float, float] | None:
    """Height and width of a pixel in the patient, in mm.

    From Pixel Spacing (0028,0030) and from the two-dimensional regions in centimetres of the Sequence of
    Ultrasound Regions (0018,6011). Imager Pixel Spacing is not taken: it is larger than the patient is.

    Args:
        dataset: with :data:`SPACING_ATTRIBUTES`, as far as the file has them.

    Returns:
        None where nothing is said, or what is said differs by over 1 %, or is no size of a pixel, or is of
        regions that reach beyond the picture, which somebody has made smaller since.
    """
    try:
        found = list(_said(dataset))
    except (AttributeError, LookupError, TypeError, ValueError):
        return None
    low, high = _PLAUSIBLE_MM
    for pair in found:
        if not all(low <= side <= high for side in pair):
            return None
        if not all(math.isclose(a, b, rel_tol=_ALIKE) for a, b in zip(pair, found[0], strict=True)):
            return None
    return found[0] if found else None


def _said(dataset: Dataset) -> Iterable[tuple[float, float]]:
    spacing = dataset.get("PixelSpacing")
    if spacing:
        down, across = spacing
        yield float(down), float(across)
    for region in dataset.get("SequenceOfUltrasoundRegions") or ():
        if region.RegionLocationMaxX1 >= dataset.Columns or region.RegionLocationMaxY1 >= dataset.Rows:
            raise ValueError("a region reaches beyond the picture")
        units = region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")
        if region.get("RegionSpatialFormat") == _TWO_DIMENSIONAL and units == (_CENTIMETRES, _CENTIMETRES):
            yield 10 * abs(float(region.PhysicalDeltaY)), 10 * abs(float(region.PhysicalDeltaX))
