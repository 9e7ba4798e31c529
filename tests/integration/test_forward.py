"""Originals reach a real archive, whenever it is there: DCMTK's storescp, and Orthanc."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

from edge.agent import forward
from edge.agent.archive import Archive
from edge.agent.cases import Cases
from edge.agent.clock import Clock
from edge.agent.config import PacsConfig, SpoolConfig
from edge.agent.database import Database
from edge.agent.forward import Forwarder
from edge.agent.identity import Identity
from edge.agent.originals import Originals
from edge.agent.outbox import Outbox
from edge.agent.recorder import Recorder
from edge.agent.spool import Spool
from edge.agent.vault import Vault
from edge.mqtt.topics import Topics
from edge.sources.base import Original
from tests.integration.conftest import free_port, wait_for

pytestmark = pytest.mark.integration

NAME = "Yamada^Tarou=山田^太郎"


class Cart:
    """The part of an agent that keeps originals and forwards them."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.database = Database(folder / "agent.db")
        identity, vault = Identity(b"i" * 32), Vault(b"k" * 32)
        self.spool = Spool(
            folder / "spool",
            self.database,
            vault,
            identity,
            SpoolConfig(keep_free_megabytes=0),
            forwards=True,
        )
        self.recorder = Recorder(self.database, Topics("clinic", "cart"), Clock())
        self.originals = Originals(Cases(self.database, vault, identity), self.spool, identity, self.recorder)
        self.outbox = Outbox(self.database)
        pacs = PacsConfig(host="127.0.0.1", port=port, ae_title="ARCHIVE")
        self.forwarder = Forwarder(Archive(pacs), self.spool, self.recorder)

    def take(self, number: int, sop_class: str = UltrasoundImageStorage) -> None:
        dataset = Dataset()
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.PatientName, dataset.PatientID = NAME, f"ID-{number}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
        dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid(entropy_srcs=[str(number)])
        dataset.Modality = "US"
        dataset.Rows = dataset.Columns = 16
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 7, 0, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PixelData = np.full((16, 16), number, np.uint8).tobytes()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = self.folder / f"{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        self.originals.take(Original(path, "1.2.3"))
        self.database.write(lambda _: None).result()

    def codes(self) -> list[str]:
        return [json.loads(message.payload)["code"] for message in self.outbox.next(100, "event")]


@pytest.fixture
def cart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Cart]]:
    monkeypatch.setattr(forward, "_BACK_OFF_S", (0.1, 0.2))
    monkeypatch.setattr(forward, "_LOOK_S", 0.05)
    made: list[Cart] = []

    def make(port: int) -> Cart:
        made.append(Cart(tmp_path, port))
        return made[-1]

    yield make
    for one in made:
        one.forwarder.stop()
        one.database.close()


@pytest.fixture
def run() -> Iterator[Callable[..., None]]:
    """``run(*command)``: a program that is stopped at the end."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    yield start
    for process in running:
        process.terminate()
        process.wait(10)


def test_originals_wait_for_the_archive_and_arrive_as_they_came(cart, run, tmp_path):
    if not shutil.which("storescp"):
        pytest.skip("DCMTK is not installed: apt-get install dcmtk")
    port = free_port()
    agent = cart(port)
    for number in (1, 2):
        agent.take(number)
    agent.take(3, "1.2.840.10008.5.1.4.1.1.9999")  # a class that no archive knows
    agent.forwarder.start()
    wait_for(lambda: "pacs_lost" in agent.codes())
    assert agent.spool.waiting() == 3
    archive = tmp_path / "archive"
    archive.mkdir()
    run("storescp", "--output-directory", str(archive), "--aetitle", "ARCHIVE", str(port))
    wait_for(lambda: agent.spool.waiting() == 1)
    wait_for(lambda: "pacs_refused" in agent.codes())
    assert agent.codes().count("pacs_lost") == agent.codes().count("pacs_back") == 1
    assert agent.spool.next() is None
    arrived = {str(one.PatientID): one for one in map(dcmread, archive.iterdir())}
    assert sorted(arrived) == ["ID-1", "ID-2"]
    for number in (1, 2):
        sent, got = dcmread(tmp_path / f"{number}.dcm"), arrived[f"ID-{number}"]
        assert got.to_json() == sent.to_json() and got.PatientName.ideographic == "山田^太郎"


def test_orthanc_takes_the_originals(cart, run, tmp_path):
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if not program:
        pytest.skip("Orthanc is not installed: apt-get install orthanc")
    port, http = free_port(), free_port()
    (tmp_path / "orthanc").mkdir()
    config = {
        "DicomAet": "ARCHIVE",
        "DicomPort": port,
        "HttpPort": http,
        "StorageDirectory": str(tmp_path / "orthanc"),
        "IndexDirectory": str(tmp_path / "orthanc"),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(config))
    agent = cart(port)
    for number in (1, 2):
        agent.take(number)
    run(program, str(tmp_path / "orthanc.json"))
    agent.forwarder.start()
    wait_for(lambda: agent.spool.waiting() == 0, 40)

    def ask(path: str) -> object:
        with urllib.request.urlopen(f"http://127.0.0.1:{http}{path}", timeout=10) as answer:
            return json.load(answer)

    patients = [ask(f"/patients/{one}") for one in ask("/patients")]  # type: ignore[attr-defined]
    tags = [patient["MainDicomTags"] for patient in patients]  # type: ignore[index]
    assert sorted(tag["PatientID"] for tag in tags) == ["ID-1", "ID-2"]
    assert {tag["PatientName"] for tag in tags} == {NAME}
