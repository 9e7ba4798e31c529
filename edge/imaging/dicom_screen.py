"""An ultrasound machine's screen in a DICOM object, cut to the scan: the rest is its user interface."""

from __future__ import annotations

from pydicom import Dataset

from edge.bundle.reasons import Reason
from edge.imaging.frame import Pixels
from edge.imaging.screen_capture import Box, find_scan

__all__ = ["ScanCut"]

_TWO_DIMENSIONAL, _TISSUE = 1, 1
_LEAST_SIDE = 16  # pixels of a region that is meant


class ScanCut:
    """The scan of an ultrasound object's frames, or why there can be no result.

    Where the object describes regions (PS3.3 C.8.5.5), that is the box around those which are 2D tissue.
    Where it describes none, or some that reach beyond the picture (it was made smaller by somebody who left
    them as they were), and Burned In Annotation (0028,0301) is YES, it is what ``find_scan`` finds in the
    first frame that shows a scan: a machine's screen does not move during a cine, what is in it does. An
    object that says nothing of either is left as it is.

    Args:
        dataset: the object's data set.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._box: Box | None = None

    def of(self, pixels: Pixels) -> tuple[Pixels, Reason | None]:
        """The part to judge of a frame as it is displayed, and why it cannot be judged."""
        if self._dataset.get("Modality") != "US":
            return pixels, None
        if self._box is None:
            boxes = _regions(self._dataset, *pixels.shape[:2])
            if boxes:
                top, left = min(box.top for box in boxes), min(box.left for box in boxes)
                bottom, right = max(box.bottom for box in boxes), max(box.right for box in boxes)
                self._box = Box(top, left, bottom, right)
            elif self._dataset.get("BurnedInAnnotation") != "YES":
                return pixels, None
            else:
                self._box = find_scan(pixels)
        return (self._box.of(pixels), None) if self._box else (pixels, Reason.USER_INTERFACE)


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
