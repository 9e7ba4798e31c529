"""What names a patient is kept, sealed, and let go by the stated rule alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

from edge.agent.cases import Cases
from edge.agent.clock import Clock
from edge.agent.config import SpoolConfig
from edge.agent.database import Database
from edge.agent.identity import Identity
from edge.agent.originals import Originals
from edge.agent.outbox import Outbox
from edge.agent.recorder import Recorder
from edge.agent.spool import Kept, Spool
from edge.agent.vault import Vault, VaultError
from edge.imaging.patient_header import read_patient
from edge.mqtt.topics import Topics
from edge.sources.base import Original

KEY = b"k" * 32


@given(st.binary(max_size=100), st.text(max_size=10))
def test_what_is_sealed_opens_as_what_it_was_sealed_and_as_nothing_else(plain, context):
    sealed = Vault(KEY).seal(plain, context)
    assert Vault(KEY).open(sealed, context) == plain
    assert len(plain) < 4 or plain not in sealed
    for vault, data, as_what in [
        (Vault(b"x" * 32), sealed, context),
        (Vault(KEY), sealed, context + "x"),
        (Vault(KEY), sealed[:-1], context),
        (Vault(KEY), sealed[:-1] + bytes([sealed[-1] ^ 1]), context),
    ]:
        with pytest.raises(VaultError):
            vault.open(data, as_what)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (2 << 20) + 5])
def test_a_stream_opens_whole_or_not_at_all(size):
    plain, sealed = os.urandom(size), BytesIO()
    Vault(KEY).seal_stream(BytesIO(plain), sealed, "file")
    whole = sealed.getvalue()
    assert b"".join(Vault(KEY).open_stream(BytesIO(whole), "file")) == plain
    chunk = (1 << 20) + 28
    cuts = [whole[:-1], whole[:-28], whole[:chunk]] if size > chunk else [whole[:-1]]
    swapped = whole[chunk : 2 * chunk] + whole[:chunk] + whole[2 * chunk :]
    for damaged in [*cuts, whole + b"x", *([swapped] if size > 2 << 20 else [])]:
        with pytest.raises(VaultError):
            list(Vault(KEY).open_stream(BytesIO(damaged), "file"))


def dicom(path: Path, charset: str | list[str] = "ISO_IR 192", **values: str) -> Path:
    dataset = Dataset()
    dataset.SpecificCharacterSet = charset
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundImageStorage, "1.2.3"
    for name, value in values.items():
        setattr(dataset, name, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("charset", "name", "groups"),
    [
        ("", "DOE^JOHN", ("DOE^JOHN", "", "")),
        ("ISO_IR 100", "Müller^Jürgen", ("Müller^Jürgen", "", "")),
        ("ISO_IR 144", "Люкceмбypг", ("Люкceмбypг", "", "")),
        ("ISO_IR 127", "قباني^لنزار", ("قباني^لنزار", "", "")),
        ("ISO_IR 166", "สมชาย", ("สมชาย", "", "")),
        ("ISO_IR 192", "Wang^XiaoDong=王^小東", ("Wang^XiaoDong", "王^小東", "")),
        ("GB18030", "Wang^XiaoDong=王^小东", ("Wang^XiaoDong", "王^小东", "")),
        (
            ["", "ISO 2022 IR 87"],
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            ("Yamada^Tarou", "山田^太郎", "やまだ^たろう"),
        ),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", ("Hong^Gildong", "洪^吉洞", "홍^길동")),
    ],
)
def test_a_name_is_read_in_whatever_character_set(tmp_path, charset, name, groups):
    patient = read_patient(dicom(tmp_path / "x.dcm", charset, PatientName=name, PatientID=" 7 "))
    assert (patient.alphabetic, patient.ideographic, patient.phonetic) == groups
    assert patient.id == "7" and patient.known and not patient.accession


def test_what_turns_or_breaks_a_line_of_the_screen_is_left_out(tmp_path):
    patient = read_patient(dicom(tmp_path / "x.dcm", PatientName="A\u202eB\x07C", PatientID="9" * 60))
    assert patient.alphabetic == "AB C"


class Kit:
    def __init__(self, folder: Path, key: bytes = KEY, forwards: bool = True, **limits: float) -> None:
        self.folder = folder
        self.database = Database(folder / "agent.db")
        identity, vault = Identity(b"i" * 32), Vault(key)
        config = SpoolConfig.model_validate({"keep_free_megabytes": 0, **limits})
        self.cases = Cases(self.database, vault, identity)
        self.spool = Spool(folder / "spool", self.database, vault, identity, config, forwards=forwards)
        self.outbox = Outbox(self.database)
        recorder = Recorder(self.database, Topics("s", "d"), Clock())
        self.originals = Originals(self.cases, self.spool, identity, recorder)
        self.study = identity.study

    def events(self) -> list[bytes]:
        self.database.write(lambda _: None).result()
        return [message.payload for message in self.outbox.next(100, "event")]

    def take(self, number: int, size: int = 0, study: str = "study") -> None:
        path = dicom(self.folder / "x.dcm", PatientName=f"DOE^{number}", PatientComments="x" * size)
        self.originals.take(Original(path, study))

    def all(self) -> Iterator[str]:
        while kept := self.spool.next():
            (self.folder / "read.dcm").write_bytes(b"".join(self.spool.read(kept)))
            yield read_patient(self.folder / "read.dcm").alphabetic
            self.spool.mark(kept, forwarded=True).result()


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Callable[..., Kit]]:
    made: list[Kit] = []

    def make(**options: object) -> Kit:
        for one in made:
            one.database.close()
        made.append(Kit(tmp_path, **options))
        return made[-1]

    yield make
    made[-1].database.close()


def test_originals_are_sealed_kept_once_and_given_back_in_order(kit):
    first = kit()
    for number in (1, 2, 2):
        first.take(number)
    first.database.write(lambda _: None).result()
    assert first.spool.waiting() == 2
    for path in (first.folder / "spool").iterdir():
        assert b"DOE" not in path.read_bytes() and b"DICM" not in path.read_bytes()
    for path in first.folder.glob("agent.db*"):
        assert b"DOE" not in path.read_bytes()
    (first.folder / "spool" / "half.part").write_bytes(b"")
    again = kit()
    assert [path.name for path in (again.folder / "spool").glob("*.part")] == []
    assert list(again.all()) == ["DOE^1", "DOE^2"]


def test_a_study_whose_files_disagree_names_all_its_patients(kit):
    cart = kit()
    cart.take(1)
    cart.take(2)
    cart.take(1)
    cart.take(3, study="another")
    cart.database.write(lambda _: None).result()
    assert {patient.alphabetic for patient in cart.cases.of(cart.study("study"))} == {"DOE^1", "DOE^2"}
    assert cart.cases.of(cart.study("unknown")) == []
    with pytest.raises(VaultError):
        kit(key=b"x" * 32).cases.of(cart.study("study"))


def test_a_plain_image_names_nobody_and_is_not_kept(kit, tmp_path):
    cart = kit()
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    cart.originals.take(Original(tmp_path / "x.png", "study"))
    cart.originals.take(Original(tmp_path / "gone.dcm", "study"))
    assert cart.spool.waiting() == 0
    (event,) = cart.events()
    assert b"original_not_kept" in event and b"gone.dcm" not in event


def test_the_oldest_forwarded_goes_first_and_what_was_not_forwarded_is_counted(kit):
    cart = kit(megabytes=1)
    for number in range(3):
        cart.take(number, 9000)
    cart.database.write(lambda _: None).result()
    cart.spool.mark(
        Kept(*cart.database.read("SELECT name, study FROM original WHERE seq = 2")[0]), forwarded=True
    ).result()
    cart.take(3, 1_035_000)
    (event,) = cart.events()
    assert {row for (row,) in cart.database.read("SELECT seq FROM original")} == {3, 4}
    assert b'"files":2' in event and b'"not_forwarded":1' in event and b'"warning"' in event
    assert len(list((cart.folder / "spool").iterdir())) == 2
    cart.take(4, 1_200_000)
    assert b"original_not_kept" in cart.events()[-1]


@pytest.mark.parametrize(("forwards", "left"), [(True, {2}), (False, set())])
def test_what_is_old_goes_once_forwarded_or_if_there_is_nowhere_to_forward_it(kit, forwards, left):
    cart = kit(days=1, forwards=forwards)
    for number in (1, 2):
        cart.take(number, study=f"{number}")
    cart.database.write(lambda connection: connection.execute("UPDATE original SET created = 0")).result()
    cart.database.write(lambda connection: connection.execute("UPDATE patient SET created = 0")).result()
    one = cart.spool.next()
    cart.spool.mark(one, forwarded=True).result()
    cart.originals.purge(keep_days=1)
    cart.database.write(lambda _: None).result()
    assert {row for (row,) in cart.database.read("SELECT seq FROM original")} == left
    # Whose it is goes with the last file of the study.
    assert {s for s in ("1", "2") if cart.cases.of(cart.study(s))} == {str(seq) for seq in left}


def test_one_that_the_archive_refused_lets_the_others_pass(kit):
    cart = kit()
    for number in (1, 2):
        cart.take(number)
    cart.database.write(lambda _: None).result()
    cart.spool.mark(cart.spool.next(), forwarded=False).result()
    assert list(cart.all()) == ["DOE^2"]
    yesterday = time.time() - 90_000
    cart.database.write(
        lambda connection: connection.execute("UPDATE original SET refused = ?", (yesterday,))
    )
    cart.database.write(lambda _: None).result()
    assert list(cart.all()) == ["DOE^1"]
