"""Reports and captures for an archive: what they say, whose they are, and that others can read them."""

from __future__ import annotations

import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import UltrasoundImageStorage

from edge.agent.documents import SCHEME, Document, Evidence, capture, complete, report

_FINDING: dict[str, Any] = {
    "id": "ab" * 16,
    "site": "clinic",
    "device": "cart",
    "case_code": "AAAA-BBBB",
    "frame": 3,
    "decision": "positive",
    "label": "läsion",
    "probability": 0.93,
    "probabilities": {"läsion": 0.93, "normal": 0.07},
    "thresholds": {"läsion": 0.5},
    "reasons": [],
    "bundle": {"name": "tiny", "version": "1.0.0", "sha256": "0" * 64},
    "measurements": [
        {"name": "area", "label": "ventricle", "value": 12.5, "unit": "cm2", "reason": None},
        {"name": "ejection_fraction", "label": "ventricle", "value": 61.0, "unit": "%", "reason": None},
        {"name": "end_systolic_volume", "label": "ventricle", "value": None, "unit": "mL", "reason": "short"},
    ],
}
_REFUSED = _FINDING | {
    "id": "cd" * 16,
    "decision": "no_result",
    "label": None,
    "probability": None,
    "probabilities": {},
    "reasons": ["out_of_distribution", "frozen"],
    "measurements": [],
}


def header(name: str) -> Dataset:
    found = complete(dcmread(str(get_testdata_file(name, download=False)), stop_before_pixels=True))
    assert found is not None
    return found


def written(made: Dataset) -> Dataset:
    file = BytesIO()
    made.save_as(file, enforce_file_format=True)
    file.seek(0)
    return dcmread(file)


def items(container: Dataset) -> dict[tuple[str, str], list[Dataset]]:
    """All content items below, by the designator and the value of their names."""
    found: dict[tuple[str, str], list[Dataset]] = {}
    for item in container.get("ContentSequence") or []:
        name = item.ConceptNameCodeSequence[0]
        found.setdefault((name.CodingSchemeDesignator, name.CodeValue), []).append(item)
        for key, below in items(item).items():
            found.setdefault(key, []).extend(below)
    return found


def test_a_report_says_what_was_found_measured_and_refused(tmp_path: Path) -> None:
    image = header("examples_ybr_color.dcm")
    evidence = [Evidence(_FINDING, image), Evidence(_REFUSED, image)]
    made = written(report(evidence, Document("2.25.1", "2.25.2", 1), "2.25.3"))
    assert (made.SOPInstanceUID, made.SeriesInstanceUID) == ("2.25.2", "2.25.1")
    assert (made.PatientName, made.StudyInstanceUID) == (image.PatientName, image.StudyInstanceUID)
    assert "not a diagnosis" in made.SeriesDescription
    said = items(made)
    assert [item.ConceptCodeSequence[0].CodeMeaning for item in said[SCHEME, "decision"]] == [
        "Present",
        "No result",
    ]
    reasons = [item.ConceptCodeSequence[0].CodeMeaning for item in said[SCHEME, "no_result"]]
    assert reasons == ["Out of distribution", "Frozen"]
    (fraction,) = said["LN", "10230-1"]
    value = fraction.MeasuredValueSequence[0]
    assert (float(value.NumericValue), value.MeasurementUnitsCodeSequence[0].CodeValue) == (61.0, "%")
    (volume,) = said["LN", "8823-5"]
    assert volume.ConceptCodeSequence[0].CodeMeaning == "Short"
    frames = [item.ReferencedSOPSequence[0].ReferencedFrameNumber for item in said["DCM", "121112"]]
    assert frames == [4, 4]
    if shutil.which("dsrdump"):
        made.save_as(tmp_path / "report.dcm")
        command = ["dsrdump", "-Ee", str(tmp_path / "report.dcm")]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_capture_is_the_picture_with_a_line_below(capfd: pytest.CaptureFixture[str]) -> None:
    image = header("CT_small.dcm")
    picture = np.full((300, 400, 3), 90, np.uint8)
    made = written(capture(Evidence(_FINDING, image), picture, Document("2.25.4", "2.25.5", 2)))
    np.testing.assert_array_equal(made.pixel_array[:300], picture)
    assert made.pixel_array[300:].max() > 150
    assert made.PatientID == image.PatientID and made.InstanceNumber == 2
    assert "not a diagnosis" in made.DerivationDescription
    assert str(image.PatientName) not in "".join(capfd.readouterr())


def test_headers_without_what_all_objects_have_are_filled_or_left() -> None:
    bare = Dataset()
    bare.SOPClassUID = UltrasoundImageStorage
    bare.SOPInstanceUID = bare.StudyInstanceUID = "1.2.3"
    assert complete(bare) is None
    bare.SeriesInstanceUID, bare.Modality = "1.2.4", "US"
    filled = complete(bare)
    assert filled is not None and filled.PatientID == "" and filled.StudyDate == ""
    evidence = Evidence({**_FINDING, "frame": 0}, filled)
    assert written(report([evidence], Document("2.25.1", "2.25.2", 1), "2.25.3")).PatientID == ""
    picture = np.zeros((8, 400, 3), np.uint8)
    assert written(capture(evidence, picture, Document("2.25.4", "2.25.5", 2))).Rows == 32
