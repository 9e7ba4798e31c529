"""An ultrasound machine's screen in a DICOM object, cut to the scan: the rest is its user interface."""

from __future__ import annotations

from pydicom import Dataset

from edge.bundle.reasons import Reason
from edge.imaging.frame import Pixels
from edge.imaging.screen_capture import Box, find_scan

__all__ = ["cut_to_scan"]

_TWO_DIMENSIONAL, _TISSUE = 1, 1
_LEAST_SIDE = 16  # pixels of a region that is meant


def cut_to_scan(pixels: Pixels, dataset: Dataset) -> tuple[Pixels, Reason | None]:
    """The scan of an ultrasound image, and why there can be no result.

    Where the object describes regions (PS3.3 C.8.5.5), that is the box around those which are 2D tissue.
    Where it describes none, or some that reach beyond the picture (it was made smaller by somebody who left
    them as they were), and Burned In Annotation (0028,0301) is YES, it is what ``find_scan`` finds. An object
    that says nothing of either is left as it is.

    Args:
        pixels: a frame as it is displayed.
        dataset: the object's data set.
    """
    if dataset.get("Modality") != "US":
        return pixels, None
    boxes = _regions(dataset, *pixels.shape[:2])
    if boxes:
        top, left = min(box.top for box in boxes), min(box.left for box in boxes)
        bottom, right = max(box.bottom for box in boxes), max(box.right for box in boxes)
        return Box(top, left, bottom, right).of(pixels), None
    if dataset.get("BurnedInAnnotation") != "YES":
        return pixels, None
    box = find_scan(pixels)
    return (box.of(pixels), None) if box else (pixels, Reason.USER_INTERFACE)


def _regions(dataset: Dataset, rows: int, columns: int) -> list[Box]:
    found = []
    for region in dataset.get("SequenceOfUltrasoundRegions") or []:
        left, top, right, bottom = (
            int(region[f"RegionLocation{end}"].value) for end in ("MinX0", "MinY0", "MaxX1", "MaxY1")
        )
        if not (0 <= left < right < columns and 0 <= top < bottom < rows):
            return []
        kind = region.get("RegionSpatialFormat"), region.get("RegionDataType")
        if kind == (_TWO_DIMENSIONAL, _TISSUE) and min(right - left, bottom - top) >= _LEAST_SIDE:
            found.append(Box(top, left, bottom + 1, right + 1))
    return found
