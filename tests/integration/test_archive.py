"""Images come from a machine, results go to an archive, and the machine learns when its images are safe.

Both are real: Orthanc, once as the machine that sends and asks for storage commitment, once as the archive.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

from edge.agent.documents import SCHEME
from tests.integration.carts import Cart
from tests.integration.conftest import free_port, wait_for

pytestmark = pytest.mark.integration

_PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
_NAME = "Yamada^Tarou=山田^太郎"


class Orthanc:
    """One server, its REST interface on ``http``."""

    def __init__(self, folder: Path, title: str, **more: Any) -> None:
        folder.mkdir()
        self.port, self.http = free_port(), free_port()
        self._config = folder / "orthanc.json"
        self._process: subprocess.Popen[bytes] | None = None
        config = {
            "DicomAet": title,
            "DicomPort": self.port,
            "DicomCheckCalledAet": True,
            "HttpPort": self.http,
            "StorageDirectory": str(folder),
            "IndexDirectory": str(folder),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [],
        }
        self._config.write_text(json.dumps(config | more))

    def start(self) -> None:
        assert _PROGRAM
        command = [_PROGRAM, str(self._config)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self._answers, 60)

    def _answers(self) -> bool:
        try:
            return bool(self.ask("/system"))
        except OSError:
            return False

    def ask(self, path: str, data: bytes | None = None) -> Any:
        url = f"http://127.0.0.1:{self.http}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=30) as answer:
            return json.load(answer)

    def instance(self, id_: str) -> Dataset:
        url = f"http://127.0.0.1:{self.http}/instances/{id_}/file"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return dcmread(BytesIO(answer.read()))

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(20)


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Callable[..., Orthanc]]:
    if _PROGRAM is None:
        pytest.skip("Orthanc is not installed: apt-get install orthanc")
    made: list[Orthanc] = []

    def make(title: str, **more: Any) -> Orthanc:
        made.append(Orthanc(tmp_path / title, title, **more))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def ultrasound(pixels: np.ndarray, study: str) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundImageStorage, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.1"
    dataset.PatientName, dataset.PatientID, dataset.Modality = _NAME, "ID-4711", "US"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.WindowCenter, dataset.WindowWidth = 128, 256
    dataset.PixelData = pixels.tobytes()
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def test_results_reach_the_archive_and_the_machine_is_told_when_its_images_are_safe(
    orthanc,
    make_cart,
    mosquitto,
    subscriber,
    picture,
    tmp_path,
):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    port = free_port()
    archive = orthanc("ARCHIVE")
    machine = orthanc("US1", DicomModalities={"cart": ["CART", "127.0.0.1", port]})
    agent: Cart = make_cart(broker.port)
    agent.config |= {
        "study_silence_s": 2.0,
        "sources": [
            {
                "kind": "dicom",
                "ae_title": "CART",
                "host": "127.0.0.1",
                "port": port,
                "callers": ["US1"],
                "commitment": {"US1": {"host": "127.0.0.1", "port": machine.port}},
            }
        ],
        "pacs": {
            "host": "127.0.0.1",
            "port": archive.port,
            "ae_title": "ARCHIVE",
            "results": ["report", "capture"],
        },
    }
    agent.start()
    machine.start()
    study = generate_uid(prefix=None)  # a UUID: leaves room for the series
    pictures = [picture("lesion", 3, 64), picture("normal", 3, 64)]
    sent = [machine.ask("/instances", ultrasound(pixels, study)) for pixels in pictures]
    ids = [one["ID"] for one in sent]
    wait_for(lambda: _tried(lambda: machine.ask("/modalities/cart/echo", b"{}")), 120)
    machine.ask("/modalities/cart/store", json.dumps(ids).encode())
    asked = machine.ask("/modalities/cart/storage-commitment", json.dumps({"Resources": ids}).encode())

    def commitment() -> str:
        return str(machine.ask(asked["Path"])["Status"])

    wait_for(lambda: len(watcher.findings()) == 2, 60)
    wait_for(lambda: "pacs_lost" in [event["code"] for event in watcher.json("/up/event")], 60)
    time.sleep(2)
    assert commitment() == "Pending"
    archive.start()
    wait_for(lambda: commitment() != "Pending", 120)
    told = machine.ask(asked["Path"])
    assert told["Status"] == "Success" and len(told["Success"]) == 2 and not told["Failures"]
    assert told["RemoteAET"] == "CART"

    wait_for(lambda: "results_sent" in [event["code"] for event in watcher.json("/up/event")], 120)
    assert agent.end() == 0
    stored = [archive.instance(id_) for id_ in archive.ask("/instances")]
    assert sorted(str(one.Modality) for one in stored) == ["OT", "SR", "US", "US"]
    assert {str(one.PatientID) for one in stored} == {"ID-4711"}
    assert {str(one.PatientName) for one in stored} == {_NAME}
    assert {one.StudyInstanceUID for one in stored} == {study}
    of = {kind: [one for one in stored if one.Modality == kind] for kind in ("SR", "OT", "US")}
    (report,), (capture,), originals = of["SR"], of["OT"], of["US"]
    _is_a_report_of(report, originals, watcher.findings(), tmp_path)
    _is_a_capture(capture)
    messages = b"".join(payload for _, payload in watcher.messages)
    for told_to_nobody in (b"ID-4711", b"Yamada", study.encode()):
        assert told_to_nobody not in messages


def _tried(call: Callable[[], Any]) -> bool:
    try:
        call()
    except OSError:
        return False
    return True


def _is_a_report_of(
    report: Dataset, originals: list[Dataset], findings: list[dict[str, Any]], tmp_path: Path
) -> None:
    """TID 1500, as highdicom writes and pydicom reads it; DCMTK finds nothing wrong."""
    assert report.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurement Report"
    template = report.ContentTemplateSequence[0]
    assert (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500")
    assert (report.CompletionFlag, report.VerificationFlag) == ("PARTIAL", "UNVERIFIED")
    path = tmp_path / "report.dcm"
    report.save_as(path)
    dump = subprocess.run(["dsrdump", "+Pc", "-Ee", str(path)], capture_output=True, text=True, check=False)
    assert dump.returncode == 0, dump.stderr
    referenced = {
        item.ReferencedSOPInstanceUID
        for item in report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0][
            "ReferencedSOPSequence"
        ]
    }
    assert referenced == {one.SOPInstanceUID for one in originals}
    groups = _containers(report, "Measurement Group")
    assert len(groups) == len(findings) == 2
    decisions = sorted(_value(group, "Decision").CodeMeaning for group in groups)
    assert decisions == ["Absent", "Present"]
    for finding in findings:
        (group,) = [
            one
            for one in groups
            if f"2.25.{int(finding['id'], 16)}" == _item(one, "Tracking Unique Identifier").UID
        ]
        label = _value(group, "Finding")
        assert (label.CodeMeaning, label.CodingSchemeDesignator) == (finding["label"], SCHEME)
        measured = _item(group, f"Probability of {finding['label']}").MeasuredValueSequence[0]
        assert float(measured.NumericValue) == pytest.approx(finding["probability"], abs=1e-6)


def _containers(item: Dataset, meaning: str) -> list[Dataset]:
    found = []
    for child in item.get("ContentSequence") or []:
        named = child.get("ConceptNameCodeSequence")
        if named and named[0].CodeMeaning == meaning and child.ValueType == "CONTAINER":
            found.append(child)
        found += _containers(child, meaning)
    return found


def _item(group: Dataset, meaning: str) -> Dataset:
    (found,) = [
        child for child in group.ContentSequence if child.ConceptNameCodeSequence[0].CodeMeaning == meaning
    ]
    return found


def _value(group: Dataset, meaning: str) -> Dataset:
    return _item(group, meaning).ConceptCodeSequence[0]


def _is_a_capture(capture: Dataset) -> None:
    pixels = capture.pixel_array
    assert pixels.shape[1:] == (64, 3) and pixels.shape[0] > 64
    assert "not a diagnosis" in capture.DerivationDescription
    hue = cv2.cvtColor(pixels[:64], cv2.COLOR_RGB2HSV)
    assert hue[..., 1].max() > 60, "no heat map"
    assert pixels[64:].max() > 100, "no text"
