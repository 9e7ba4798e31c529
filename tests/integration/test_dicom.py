"""Real modalities' tools (DCMTK) send to the receiver, and to the whole agent."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from edge.agent.archive import Archive, UnreachableError
from edge.agent.config import DicomSource, PacsConfig, Tls
from edge.imaging.frame import Frame
from edge.sources.base import Done, Failure, Item, Notice
from edge.sources.dicom import DicomReceiver
from edge.sources.dicom_scp import VERIFICATION
from tests.integration.carts import Cart
from tests.integration.conftest import free_port, wait_for

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK is missing: apt-get install dcmtk"),
]

_PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64), np.uint8)


def write(path: Path, sop_class: str, syntax: str = ExplicitVRLittleEndian, **more: Any) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.Modality = "DOE^JANE", "ID-4711", "US"
    dataset.Rows, dataset.Columns = _PIXELS.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.WindowCenter, dataset.WindowWidth = 128, 256
    dataset.PixelData = _PIXELS.tobytes()
    for name, value in more.items():
        setattr(dataset, name, value)
    dataset["PixelData"].VR = "OB"
    dataset.save_as(
        path,
        enforce_file_format=True,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
    )
    return path


def storescu(
    port: int, *files: Path, calling: str = "CR1", called: str = "CART", options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = ["storescu", "-v", *options, "-aet", calling, "-aec", called, "-to", "5", "127.0.0.1"]
    command += [str(port), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


class Receiver:
    """Runs the source and remembers what it yields; what is done counts as committed when it may."""

    def __init__(self, inbox: Path, **config: Any) -> None:
        self.inbox, self.port = inbox, free_port()
        self.items: list[Item] = []
        self.seen: set[str] = set()
        self.commits = True
        self._stop = threading.Event()
        source = DicomSource(ae_title="CART", host="127.0.0.1", port=self.port, callers=("CR1",), **config)
        self._source = DicomReceiver(source, inbox, self.seen.__contains__)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_for(lambda: listens(self.port))

    def _run(self) -> None:
        for item in self._source.frames(self._stop):
            self.items.append(item)
            if isinstance(item, Done) and self.commits:
                self.seen.update(item.keys)

    def of(self, kind: type) -> list[Any]:
        return [item for item in list(self.items) if isinstance(item, kind)]

    def kept(self) -> list[Path]:
        return sorted(self.inbox.glob("*.dcm"))

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def make(**config: Any) -> Receiver:
        made.append(Receiver(tmp_path / "inbox", **config))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_all_classes_and_encodings_arrive_as_they_were_sent(receiver, tmp_path):
    receiving = receiver()
    files = [
        write(tmp_path / "cr.dcm", ComputedRadiographyImageStorage),
        write(tmp_path / "dx.dcm", DigitalXRayImageStorageForPresentation, ImplicitVRLittleEndian),
        write(tmp_path / "us.dcm", UltrasoundImageStorage, ExplicitVRBigEndian),
        write(
            tmp_path / "cine.dcm",
            UltrasoundMultiFrameImageStorage,
            NumberOfFrames=3,
            PixelData=np.stack([_PIXELS, _PIXELS[::-1], _PIXELS]).tobytes(),
        ),
    ]
    still = write(tmp_path / "sc.dcm", SecondaryCaptureImageStorage)
    for program in ("dcmcjpeg", "dcmcjpls", "dcmcrle"):
        compressed = tmp_path / f"{program}.dcm"
        subprocess.run([program, "+ua" if program != "dcmcrle" else "+un", still, compressed], check=True)
        files.append(compressed)
    files.append(_jpeg_2000(still, tmp_path / "j2k.dcm"))
    for file in files:
        proposed = _PROPOSES.get(pydicom.dcmread(file).file_meta.TransferSyntaxUID, ())
        sent = storescu(receiving.port, file, options=proposed)
        assert sent.returncode == 0, (file, sent.stderr)
    frames = wait_for(lambda: len(found := receiving.of(Frame)) == len(files) + 2 and found)
    for frame in frames:
        expected = _PIXELS[::-1] if frame.index == 1 else _PIXELS
        np.testing.assert_array_equal(frame.pixels, expected)
    sent_uids = {f"sop:{pydicom.dcmread(file).SOPInstanceUID}" for file in files}
    assert {frame.identity.split("#")[0] for frame in frames} == sent_uids
    wait_for(lambda: not receiving.kept())
    assert not receiving.of(Failure)


_PROPOSES = {
    ImplicitVRLittleEndian: ("-xi",),
    ExplicitVRBigEndian: ("-xb",),
    JPEGLosslessSV1: ("-xs",),
    JPEGLSLossless: ("-xt",),
    JPEG2000Lossless: ("-xv",),
    RLELossless: ("-xr",),
}


def _jpeg_2000(still: Path, path: Path) -> Path:
    import gdcm

    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(still))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEG2000Lossless))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()
    return path


def test_echo_is_answered_and_strangers_are_refused(receiver, tmp_path):
    receiving = receiver()

    def echo(calling: str, called: str) -> int:
        command = ["echoscu", "-aet", calling, "-aec", called, "127.0.0.1", str(receiving.port)]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode

    assert echo("CR1", "CART") == 0
    assert echo("cr1", "CART") != 0 and echo("CR1", "OTHER") != 0
    file = write(tmp_path / "a.dcm", ComputedRadiographyImageStorage)
    assert "Calling AE Title Not Recognized" in storescu(receiving.port, file, calling="STRANGER").stderr
    told = wait_for(lambda: len(found := receiving.of(Notice)) >= 3 and found)
    assert {notice.code for notice in told} == {"dicom_caller_refused"}
    assert not receiving.of(Frame) and not receiving.kept()


def test_what_is_not_read_here_is_refused_before_it_is_sent(receiver, tmp_path):
    receiving = receiver()
    sent = storescu(receiving.port, write(tmp_path / "ct.dcm", CTImageStorage))
    assert sent.returncode != 0 and "No valid Presentation Context" in sent.stderr
    ae = AE("CR1")
    ae.add_requested_context(VERIFICATION)
    ae.add_requested_context(UltrasoundImageStorage, DeflatedExplicitVRLittleEndian)
    ae.add_requested_context(DigitalXRayImageStorageForProcessing)
    association = ae.associate("127.0.0.1", receiving.port, ae_title="CART")
    assert [context.abstract_syntax for context in association.accepted_contexts] == [VERIFICATION]
    association.release()
    assert not receiving.kept() and not receiving.items


def test_an_object_that_is_not_what_its_request_says_is_refused(receiver):
    receiving = receiver()
    ae = AE("CR1")
    ae.add_requested_context(UltrasoundImageStorage, ExplicitVRLittleEndian)
    assoc = ae.associate("127.0.0.1", receiving.port, ae_title="CART")
    assert assoc.is_established

    def status(data: bytes) -> int:
        request = C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = UltrasoundImageStorage, "1.2.3"
        request.DataSet = BytesIO(data)
        assoc._reactor_checkpoint.clear()
        assoc.dimse.send_msg(request, 1)
        _, response = assoc.dimse.get_msg(block=True)
        assoc._reactor_checkpoint.set()
        return int(response.Status)

    def uids(sop_class: str, instance: str) -> bytes:
        coded = b""
        for element, value in ((0x16, sop_class), (0x18, instance)):
            text = value.encode() + b"\0" * (len(value) % 2)
            coded += struct.pack("<HH2sH", 8, element, b"UI", len(text)) + text
        return coded

    assert status(uids(CTImageStorage, "1.2.3")) == 0xA900
    assert status(uids(UltrasoundImageStorage, "1.2.4")) == 0xA900
    assert status(uids(UltrasoundImageStorage, "1.2.3")[:-20]) == 0xC000
    assert status(b"\xff" * 200) == 0xC000
    assert not receiving.kept()
    # What it says it is, but without pixels: kept, and told as unreadable.
    assert status(uids(UltrasoundImageStorage, "1.2.3")) == 0x0000
    assoc.release()
    failure = wait_for(lambda: receiving.of(Failure))[0]
    assert failure.path in receiving.kept()


def test_a_full_disk_refuses_and_says_so(receiver, tmp_path):
    disk = os.statvfs(tmp_path)
    receiving = receiver(min_free_mb=disk.f_bavail * disk.f_frsize * 3 // 2 // 1_000_000)
    file = write(tmp_path / "a.dcm", ComputedRadiographyImageStorage)
    for _ in range(2):
        assert "Refused: OutOfResources" in storescu(receiving.port, file).stderr
    assert [notice.code for notice in wait_for(lambda: receiving.of(Notice))] == ["dicom_no_room"]
    assert not receiving.kept() and not list((receiving.inbox / "receiving").iterdir())


def test_silent_and_lying_connections_block_nobody(receiver, tmp_path):
    receiving = receiver(max_associations=4, idle_timeout_s=2)
    file = write(tmp_path / "a.dcm", ComputedRadiographyImageStorage)
    silent = []
    for number in range(10):
        connection = socket.socket()
        connection.bind(("127.0.0.2", 0))
        connection.connect(("127.0.0.1", receiving.port))
        if number % 2:
            connection.sendall(struct.pack(">BBL", 1, 0, 0x7FFFFFFF) + b"\0" * 40)
        silent.append(connection)
    began = time.monotonic()
    assert storescu(receiving.port, file).returncode == 0
    assert time.monotonic() - began < 4
    # A bogus length does not hold its connection.
    for connection in silent:
        connection.settimeout(12)
        try:
            while connection.recv(100):
                pass
        except ConnectionResetError:
            pass
        connection.close()
    assert time.monotonic() - began < 20


def test_half_an_object_leaves_nothing(receiver, tmp_path):
    receiving = receiver()
    large = write(
        tmp_path / "large.dcm",
        UltrasoundMultiFrameImageStorage,
        NumberOfFrames=20_000,
        PixelData=bytes(_PIXELS.size * 20_000),
    )
    command = ["storescu", "-aet", "CR1", "-aec", "CART", "127.0.0.1", str(receiving.port), str(large)]
    sender = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    part = receiving.inbox / "receiving"
    wait_for(lambda: [p for p in part.iterdir() if p.stat().st_size > 100_000])
    sender.kill()
    sender.wait()
    time.sleep(0.5)
    assert not receiving.kept() and not receiving.items
    assert (
        storescu(receiving.port, write(tmp_path / "b.dcm", ComputedRadiographyImageStorage)).returncode == 0
    )
    wait_for(lambda: receiving.of(Frame))


def _is_scp(process: Path, parent: int) -> bool:
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()
        return int(state[1]) == parent and b"edge.sources.dicom_scp" in (process / "cmdline").read_bytes()
    except FileNotFoundError:
        return False


def test_a_killed_scp_is_started_again_and_what_it_took_is_kept(receiver, tmp_path):
    receiving = receiver()
    receiving.commits = False
    assert (
        storescu(receiving.port, write(tmp_path / "a.dcm", ComputedRadiographyImageStorage)).returncode == 0
    )
    wait_for(lambda: receiving.of(Done))
    (scp,) = (int(process.name) for process in Path("/proc").glob("[0-9]*") if _is_scp(process, os.getpid()))
    os.kill(scp, signal.SIGKILL)
    wait_for(lambda: [n for n in receiving.of(Notice) if n.code == "source_back"])
    assert len(receiving.kept()) == 1
    receiving.seen.update(receiving.of(Done)[0].keys)
    wait_for(lambda: not receiving.kept())
    assert len(receiving.of(Frame)) == 1


def test_kills_between_store_and_finding_lose_nothing_and_a_resend_is_the_same_finding(
    mosquitto,
    subscriber,
    make_cart,
    tmp_path,
):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent: Cart = make_cart(broker.port)
    port = free_port()
    agent.config["sources"] = [
        {"kind": "dicom", "ae_title": "CART", "host": "127.0.0.1", "port": port, "callers": ["CR1"]}
    ]
    agent.config["study_silence_s"] = 1.0
    files = [write(tmp_path / f"{n}.dcm", UltrasoundImageStorage) for n in range(20)]
    waiting = list(files)
    for _ in range(2):
        agent.start()
        for file in waiting[:10]:
            wait_for(lambda file=file: storescu(port, file).returncode == 0, 60)  # again, as modalities do
        del waiting[:10]
        agent.end(signal.SIGKILL)
    agent.start()
    ids = wait_for(lambda: len(found := {f["id"] for f in watcher.findings()}) == len(files) and found, 40)
    inbox = agent.folder / "state" / "inbox" / "dicom"
    wait_for(lambda: not list(inbox.glob("*.dcm")))
    wait_for(lambda: storescu(port, *files[:5]).returncode == 0, 60)
    wait_for(lambda: not list(inbox.glob("*.dcm")))
    time.sleep(1.5)  # until the last study is closed
    assert agent.end() == 0
    assert {finding["id"] for finding in watcher.findings()} == ids
    closed = [event["data"] for event in watcher.json("/up/event") if event["code"] == "study_closed"]
    assert {study["case_code"] for study in closed} == {f["case_code"] for f in watcher.findings()}
    told = b"".join(payload for _, payload in watcher.messages).decode("latin1") + agent.log.read_text()
    assert "DOE" not in told and "ID-4711" not in told


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, the cart's and a machine's certificates by it, and a stranger's by another."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    for name in ("ca", "other"):
        openssl(*new, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    for name, signer in (("cart", "ca"), ("machine", "ca"), ("stranger", "other")):
        signed = ("-CA", f"{signer}.pem", "-CAkey", f"{signer}.key", "-addext", "subjectAltName=IP:127.0.0.1")
        openssl(*new, *signed, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    return folder


def test_tls_lets_in_whom_the_authority_knows_and_nobody_else(receiver, certificates, tmp_path):
    tls = {"ca": certificates / "ca.pem"}
    tls |= {"certificate": certificates / "cart.pem", "key": certificates / "cart.key"}
    receiving = receiver(tls=tls)
    file = write(tmp_path / "a.dcm", ComputedRadiographyImageStorage)

    def send(who: str) -> subprocess.CompletedProcess[str]:
        shown = ("+tls", str(certificates / f"{who}.key"), str(certificates / f"{who}.pem"))
        return storescu(receiving.port, file, options=(*shown, "+cf", str(certificates / "ca.pem")))

    address = ("127.0.0.1", receiving.port)
    silent = [socket.create_connection(address, source_address=("127.0.0.2", 0)) for _ in range(3)]
    assert send("stranger").returncode != 0
    assert storescu(receiving.port, file).returncode != 0
    assert not receiving.kept() and not receiving.of(Frame)
    sent = send("machine")
    assert sent.returncode == 0, sent.stderr
    wait_for(lambda: receiving.of(Frame))
    for connection in silent:
        connection.close()


def test_originals_reach_an_archive_over_tls_and_no_other(certificates, tmp_path):
    port = free_port()
    (tmp_path / "archive").mkdir()
    key, certificate = str(certificates / "cart.key"), str(certificates / "cart.pem")
    command = ["storescp", "+tls", key, certificate, "+cf", str(certificates / "ca.pem")]
    command += ["-od", str(tmp_path / "archive"), str(port)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: listens(port))
        dataset = pydicom.dcmread(write(tmp_path / "a.dcm", ComputedRadiographyImageStorage))
        for ca, who, stored in (
            ("ca", "stranger", False),
            ("other", "machine", False),
            ("ca", "machine", True),
        ):
            tls = Tls(
                ca=certificates / f"{ca}.pem",
                certificate=certificates / f"{who}.pem",
                key=certificates / f"{who}.key",
            )
            archive = Archive(PacsConfig(host="127.0.0.1", port=port, ae_title="ARCHIVE", tls=tls))
            if stored:
                archive.store(dataset)
            else:
                with pytest.raises(UnreachableError):
                    archive.store(dataset)
            assert len(list((tmp_path / "archive").iterdir())) == stored
    finally:
        running.terminate()
        running.wait(10)
