"""How large a pixel is: said once, said twice, and said wrongly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from edge.imaging.decode import decode_file
from edge.imaging.spacing import pixel_spacing_mm
from trainer.data.phantoms.writer import write_dicom


def region(down: float = 0.05, across: float = 0.04, **changes: int) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = 1, 1
    item.RegionLocationMinX0, item.RegionLocationMinY0 = 0, 0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = 99, 79
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX, item.PhysicalDeltaY = across, down
    for name, value in changes.items():
        setattr(item, name, value)
    return item


def header(spacing: list[float] | None = None, *regions: Dataset) -> Dataset:
    dataset = Dataset()
    dataset.Rows, dataset.Columns = 80, 100
    if spacing is not None:
        dataset.PixelSpacing = spacing
    if regions:
        dataset.SequenceOfUltrasoundRegions = list(regions)
    return dataset


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (header(), None),
        (header([0.5, 0.4]), (0.5, 0.4)),
        (header(None, region()), (0.5, 0.4)),
        (header(None, region(), region(0.0501, 0.04)), (0.5, 0.4)),
        (header([0.5, 0.4], region()), (0.5, 0.4)),
        (header([0.6, 0.4], region()), None),
        (header(None, region(), region(0.08, 0.08)), None),
        (header(None, region(PhysicalUnitsXDirection=4)), None),
        (header(None, region(RegionSpatialFormat=3)), None),
        (header(None, region(RegionLocationMaxX1=100)), None),
        (header([0.0, 0.4]), None),
        (header([400, 400]), None),
        (header([0.5]), None),
    ],
)
def test_what_is_said_is_taken_unless_it_contradicts_itself(
    dataset: Dataset, expected: tuple[float, float] | None
) -> None:
    found = pixel_spacing_mm(dataset)
    assert found == (pytest.approx(expected) if expected else None)


def test_frames_of_a_file_have_it_and_a_damaged_one_is_still_shown(tmp_path: Path) -> None:
    path = tmp_path / "cine.dcm"
    pixels = np.random.default_rng(0).integers(0, 255, (2, 80, 100), np.uint8)
    write_dicom(path, pixels, "US", "BREAST")
    dataset = dcmread(path)
    dataset.SequenceOfUltrasoundRegions = [region()]
    dataset.save_as(path)
    for frame in decode_file(path, "s"):
        assert (frame.header.row_spacing_mm, frame.header.column_spacing_mm) == pytest.approx((0.5, 0.4))
    bad = region()
    del bad.PhysicalDeltaX
    dataset.SequenceOfUltrasoundRegions = [bad]
    dataset.save_as(path)
    assert [frame.header.row_spacing_mm for frame in decode_file(path, "s")] == [None, None]
