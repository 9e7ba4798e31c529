"""A disk that is full, and one that turns read-only: images wait where they are, and nothing kept is lost."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

from tests.integration.carts import Cart
from tests.integration.conftest import wait_for

pytestmark = pytest.mark.integration


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real ext4 of 48 MB."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    image, folder = tmp_path / "disk.img", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(48 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    folder.mkdir()
    try:
        mount("-o", "loop", str(image), str(folder))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"there are no loop devices: {error.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def drop_dicom(cart: Cart, number: int, pixels: np.ndarray, side: int) -> None:
    dataset = Dataset()
    dataset.PatientName, dataset.PatientID = "DOE^JANE", f"ID-{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.{number}", f"1.2.{number}.4"
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundImageStorage, generate_uid()
    dataset.Modality = "US"
    dataset.Rows = dataset.Columns = side
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 7, 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = pixels.tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    partial = cart.drop / f".{number}"
    dataset.save_as(partial, enforce_file_format=True)
    partial.rename(cart.drop / f"{number}.dcm")


def fill(disk: Path, leave: int) -> Path:
    """Leave so many bytes free."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize) > leave:
            file.write(bytes(min(1 << 18, free - leave)))
    return ballast


def codes(watcher) -> Counter[str]:
    return Counter(event["code"] for event in watcher.json("/up/event"))


@pytest.fixture
def cart(make_cart, mosquitto, subscriber, disk):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    made: Cart = make_cart(broker.port)
    made.config |= {
        "state": str(disk / "state"),
        "min_free_mb": 5,
        "health_s": 0.3,
        "spool": {"keep_free_megabytes": 0},
    }
    return made, watcher


def originals(disk: Path) -> int:
    return len([p for p in (disk / "state" / "spool").iterdir() if not p.name.endswith(".part")])


def test_a_full_disk_refuses_new_images_first_and_says_so(cart, disk, picture):
    agent, watcher = cart
    agent.start()
    wait_for(lambda: watcher.topics("/up/birth"))
    ballast = fill(disk, 3_000_000)
    wait_for(lambda: codes(watcher)["disk_full"] == 1)
    wait_for(lambda: (watcher.json("/up/health") or [{"refusing": False}])[-1]["refusing"])
    agent.feed(1, 2)
    drop_dicom(agent, 3, picture("lesion", 3), 32)
    with pytest.raises(AssertionError):
        wait_for(watcher.findings, 1.5)
    ballast.unlink()
    wait_for(lambda: len(watcher.findings()) == 3)
    wait_for(lambda: codes(watcher)["disk_back"] == 1)
    wait_for(lambda: not (watcher.json("/up/health") or [{"refusing": False}])[-1]["refusing"])
    assert originals(disk) == 1 and not codes(watcher)["original_not_kept"]
    assert agent.end() == 0


def test_an_original_that_cannot_be_kept_holds_its_image_back(cart, disk, picture):
    agent, watcher = cart
    agent.start()
    wait_for(lambda: watcher.topics("/up/birth"))
    ballast = fill(disk, 8_000_000)  # room enough for all but a large original
    side = 3200
    drop_dicom(agent, 1, np.kron(picture("lesion", 1), np.ones((100, 100), np.uint8)), side)
    wait_for(lambda: codes(watcher)["disk_full"] >= 1)
    with pytest.raises(AssertionError):
        wait_for(watcher.findings, 2.5)
    assert originals(disk) == 0
    ballast.unlink()
    wait_for(lambda: len(watcher.findings()) == 1, 30)
    wait_for(lambda: codes(watcher)["disk_back"] == 1)
    assert originals(disk) == 1 and not codes(watcher)["original_not_kept"]
    assert agent.end() == 0


def test_a_disk_that_turns_read_only_costs_nothing(cart, disk, picture):
    agent, watcher = cart
    agent.start()
    wait_for(lambda: watcher.topics("/up/birth"))
    agent.feed(1)
    wait_for(lambda: len(watcher.findings()) == 1)
    _read_only(disk)
    agent.feed(2, 3)
    drop_dicom(agent, 4, picture("lesion", 4), 32)
    wait_for(lambda: (watcher.json("/up/health") or [{"refusing": False}])[-1]["refusing"])
    with pytest.raises(AssertionError):
        wait_for(lambda: len(watcher.findings()) > 1, 1.5)
    agent.end(9)
    _read_write(disk)
    agent.start()
    wait_for(lambda: len({f["id"] for f in watcher.findings()}) == 4, 30)
    wait_for(lambda: watcher.json("/up/health")[-1]["backlog"] == 0)
    assert originals(disk) == 1
    assert agent.end() == 0


def _read_only(disk: Path) -> None:
    # An emergency remount, as the kernel does when an ext4 is found damaged (errors=remount-ro).
    mount("-o", "remount,abort", str(disk))


def _read_write(disk: Path) -> None:
    image = disk.with_suffix(".img")
    subprocess.run(["umount", str(disk)], check=True)
    subprocess.run(["e2fsck", "-fy", str(image)], check=False, capture_output=True)
    mount("-o", "loop", str(image), str(disk))
