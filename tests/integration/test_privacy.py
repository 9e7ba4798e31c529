"""Planted identifiers, and a search of every byte that the real agent writes, sends or shows."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

from edge.agent.lock import write_pin
from edge.agent.order import order
from edge.agent.vault import Vault
from edge.mqtt.broker import Broker
from edge.mqtt.topics import Topics
from tests.integration.carts import Cart
from tests.integration.conftest import free_port, wait_for

pytestmark = pytest.mark.integration

PIN = "246810"
UID = "1.2.826.0.1.3680043.8.498.7741190"
NAMES = {
    "ISO_IR 100": ("Zwiebelhüber^Quirinius", "latin-1"),
    "ISO_IR 144": ("Люксембургова^Аглая", "iso8859_5"),
    "ISO_IR 127": ("القباني^النزار", "iso8859_6"),
    "GB18030": ("Wangxiaodong^X=王小东北^丙", "gb18030"),
    "ISO 2022 IR 87": ("Yamadamaru^Tarou=太郎山田丸^花=やまだまるたろう^はな", "iso2022_jp"),
    "ISO_IR 192": ("Świerszczyńska^Żaneta", "utf-8"),
}
VALUES = {
    "PatientID": "MRN-774411902",
    "OtherPatientIDs": "OLDID-5530917",
    "AccessionNumber": "ACC-88120457",
    "PatientBirthDate": "19480317",
    "StudyDate": "20260214",
    "PatientTelephoneNumbers": "+49-30-5550199",
    "PatientAddress": "17 Rue des Alouettes",
    "InstitutionName": "St Peregrine Hospital",
    "StationName": "STATIONQ77",
    "ReferringPhysicianName": "Blumenkohl^Otto",
    "PerformingPhysicianName": "Ortigueira^Ana",
    "OperatorsName": "Szczepaniak^Jan",
    "StudyDescription": "Thorax of Mrs Pfifferling",
    "PatientComments": "brother of Kohlrabinger",
    "DeviceSerialNumber": "SN-99887766",
}
PRIVATE = "private Steckruebenmann"
FILE = "Zwetschgenmann-Egon"
DAMAGED = "Pastinakenfrau"
# All that a person could be known by; with the burned-in text, which is looked for in the pictures, 25.
PLANTED = [
    *(part for name, _ in NAMES.values() for part in re.split("[=^]", name) if len(part) > 3),
    *(part for value in VALUES.values() for part in value.split("^") if len(part) > 3),
    UID, PRIVATE, FILE, DAMAGED,
]  # fmt: skip
CODECS = ["utf-8", "utf-16-le", "utf-16-be", *{codec for _, codec in NAMES.values()}]


def forms(text: str) -> Iterator[bytes]:
    """A text in every encoding that can hold it, and as JSON, addresses and hexadecimal dumps write it."""
    for codec in CODECS:
        try:
            encoded = text.encode(codec)
        except UnicodeEncodeError:
            continue
        # Without the escapes that switch to its set and back, which depend on what stands around it.
        yield re.sub(rb"\x1b\$B|\x1b\(B", b"", encoded)
        yield encoded.hex().encode()
    yield json.dumps(text)[1:-1].encode()
    yield urllib.parse.quote(text).encode()


def found(data: bytes) -> list[str]:
    low = data.lower()
    return [text for text in PLANTED if any(form.lower() in low for form in forms(text))]


def dicom(path: Path, charset: str, number: int, pixels: Any) -> Path:
    dataset = Dataset()
    dataset.SpecificCharacterSet = ["", charset] if "2022" in charset else charset
    dataset.PatientName = NAMES[charset][0]
    for name, value in VALUES.items():
        setattr(dataset, name, value)
    dataset.private_block(0x0099, "A VENDOR", create=True).add_new(1, "LO", PRIVATE)
    dataset.StudyInstanceUID = f"{UID}.{number}"
    dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = f"{UID}.{number}.1", f"{UID}.{number}.2"
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundImageStorage, f"{UID}.{number}.1.1"
    dataset.Modality = "US"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def burned_in(picture: Any, number: int) -> Any:
    """A picture whose upper quarter holds a name, as ultrasound systems write it there."""
    pixels = picture("lesion" if number % 2 else "normal", number, 128).copy()
    pixels[:32] = 0
    cv2.putText(pixels, "QUIRINIUS Z", (2, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    return pixels


def test_the_search_finds_what_is_planted(tmp_path, picture):
    written = b""
    for number, charset in enumerate(NAMES):
        written += dicom(tmp_path / "x.dcm", charset, number, burned_in(picture, number)).read_bytes()
    assert set(found(written)) == set(PLANTED) - {FILE, DAMAGED} and len(PLANTED) >= 22
    assert found(json.dumps({"a": "王小东北"}).encode()) == ["王小东北"]


def test_nothing_that_identifies_is_written_sent_or_shown_in_clear(
    mosquitto,
    subscriber,
    make_cart,
    picture,
    tiny_bundle,
    tmp_path,
):
    if not shutil.which("storescu"):
        pytest.skip("DCMTK is not installed: apt-get install dcmtk")
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    agent: Cart = make_cart(broker.port)
    steps = [{"op": "crop", "top": 250}, {"op": "grayscale"}, {"op": "resize", "height": 32, "width": 32}]
    tiny_bundle(agent.folder / "tiny.swb", steps=steps)
    write_pin(agent.folder / "pin", PIN)
    scp, port = free_port(), free_port()
    agent.config |= {"overlays": "always", "health_s": 0.5, "log_level": "debug"}
    agent.config["screen"] = {"port": port, "pin_file": "pin"}
    agent.config["sources"].append(
        {"kind": "dicom", "ae_title": "CART", "callers": ["US1"], "host": "127.0.0.1", "port": scp}
    )
    agent.start()
    wait_for(lambda: watcher.topics("/up/birth"), 40)

    charsets = list(NAMES)
    for number, charset in enumerate(charsets[:3]):
        dicom(agent.drop / f"{FILE}-{number}.dcm", charset, number, burned_in(picture, number))
    whole = dicom(tmp_path / "whole.dcm", charsets[0], 90, burned_in(picture, 90)).read_bytes()
    (agent.drop / f"{FILE}-{DAMAGED}.dcm").write_bytes(whole[:-5000])
    (agent.drop / f"{FILE}.png").write_bytes(b"\x89PNG" + DAMAGED.encode())
    sent = [
        dicom(tmp_path / f"{number}.dcm", charset, number, burned_in(picture, number))
        for number, charset in enumerate(charsets[3:], start=3)
    ]

    def send() -> bool:
        command = ["storescu", "-aet", "US1", "-aec", "CART", "127.0.0.1", str(scp), *map(str, sent)]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0

    wait_for(send, 30)
    wait_for(lambda: len({finding["id"] for finding in watcher.findings()}) == 8, 40)
    state = agent.folder / "state"
    wait_for(lambda: not list((state / "inbox").rglob("*.dcm")))

    def ask(path: str, data: bytes | None = None) -> bytes:
        origin = f"http://127.0.0.1:{port}"
        request = urllib.request.Request(origin + path, data, {"Origin": origin})
        with opener.open(request, timeout=10) as answer:
            return bytes(answer.read())

    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    shown = ask("/") + ask("/api/findings")
    while_running = [(path.name, path.read_bytes()) for path in state.rglob("*") if path.is_file()]

    # To the PIN, and to it alone, every DICOM finding says whose it is.
    seen = [
        finding for finding in watcher.findings() if finding["decision"] != "no_result" or finding["evidence"]
    ]
    ask("/unlock", urllib.parse.urlencode({"pin": PIN, "finding": ""}).encode())
    pages = "".join(ask(f"/?finding={finding['id']}").decode() for finding in watcher.findings())
    assert all(name.split("^")[0] in pages for name, _ in NAMES.values()) and "MRN-774411902" in pages
    # Headquarters asks for all that the cart may say of itself; the answers are among the watcher's messages.
    for name, arguments in (("log", {"lines": 1000}), ("selftest", {}), ("status", {})):
        assert order(Broker("127.0.0.1", broker.port), Topics("clinic", "cart-1"), name, arguments, 60).ok
    assert len(watcher.topics("/up/response/log")[0]) > 3000
    assert seen and agent.end() == 0

    everything = [("screen", shown), *while_running]
    everything += [(path.name, path.read_bytes()) for path in state.rglob("*") if path.is_file()]
    everything += [(topic, topic.encode() + b" " + payload) for topic, payload in watcher.messages]
    everything += [(log.name, log.read_bytes()) for log in [agent.log, *tmp_path.rglob("mosquitto.log")]]
    names = "\n".join(str(path.relative_to(state)) for path in state.rglob("*")).encode()
    assert {name: found(data) for name, data in [*everything, ("names", names)] if found(data)} == {}
    assert len(list((state / "spool").iterdir())) == 6

    # What is kept sealed is there, and opens with the key alone.
    vault = Vault((state / "case.key").read_bytes())
    originals = b""
    for path in (state / "spool").iterdir():
        with path.open("rb") as file:
            originals += b"".join(vault.open_stream(file, f"original:{path.name}"))
    assert set(found(originals)) == set(PLANTED) - {FILE, DAMAGED}

    # The burned-in text is in no picture: neither on the screen nor on MQTT.
    with closing(sqlite3.connect(state / "agent.db")) as database:
        pictures = [
            png for row in database.execute("SELECT image, overlay FROM picture") for png in row if png
        ]
    assert len(pictures) >= 6
    for png in pictures:
        pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
        assert not pixels[:32].any() and pixels[32:].any()
        assert set(re.findall(rb"IHDR|IDAT|IEND|tEXt|iTXt|zTXt|eXIf|tIME", png)) == {
            b"IHDR",
            b"IDAT",
            b"IEND",
        }
    published = [payload for topic, payload in watcher.messages if "/up/overlay/" in topic]
    assert published
    for png in published:  # the heat map alone, enlarged: no pixel of the image
        assert cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED).shape == (224, 224)
