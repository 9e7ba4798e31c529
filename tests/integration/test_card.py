"""Writing cards: on a loop device, which is real to the kernel, with bad media; and what is never erased."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.errors import BadInputError, ScanwrightError
from trainer.flashing import device
from trainer.flashing.device import check_disk, extents, look_at, parse_disk, write_card

pytestmark = pytest.mark.integration
MIB = 1 << 20


def losetup(*arguments: str | Path) -> str:
    command = ["losetup", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """``card(mib)``: a card of so many MiB, filled with what an older one held."""
    if os.geteuid() or not Path("/dev/loop-control").exists():
        pytest.skip("needs root and loop devices")
    made: list[str] = []

    def make(mib: int) -> Path:
        backing = tmp_path / f"card-{len(made)}"
        backing.write_bytes(b"old!" * (mib * MIB // 4))
        made.append(losetup("--find", "--show", backing))
        return Path(made[-1])

    yield make
    for name in made:
        losetup("--detach", name)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A sparse image of 12 MiB with data at both ends."""
    path = tmp_path / "cart.img"
    with path.open("wb") as file:
        file.write(random.Random(1).randbytes(5 * MIB + 512))
        file.truncate(12 * MIB)
        file.seek(10 * MIB)
        file.write(b"x" * 1000)
    return path


def test_a_card_holds_what_was_written_and_the_bar_reaches_its_end(card, image):
    path = card(16)
    taken: list[int] = []
    write_card(image, path, taken.append)
    with path.open("rb") as file:
        for start, length in extents(image):
            file.seek(start)
            with image.open("rb") as source:
                source.seek(start)
                assert file.read(length) == source.read(length)
    assert sum(taken) == 2 * sum(length for _, length in extents(image))


def bad(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[int, int, memoryview], memoryview | None]) -> None:
    """A medium that keeps something else than it acknowledges."""
    write = os.pwrite

    def spoiled(descriptor: int, data: memoryview, offset: int) -> int:
        kept = spoil(descriptor, offset, data)
        if kept is not None:
            write(descriptor, kept, offset)
        return len(data)

    monkeypatch.setattr(device.os, "pwrite", spoiled)


@pytest.mark.parametrize("at", [5000, 4 * MIB + 77, 10 * MIB + 999])
def test_a_card_that_keeps_one_bit_wrong_is_caught_and_does_not_start_anything(card, image, monkeypatch, at):
    def flip(_descriptor: int, offset: int, data: memoryview) -> memoryview:
        if not offset <= at < offset + len(data):
            return data
        kept = bytearray(data)
        kept[at - offset] ^= 0x10
        return memoryview(kept)

    bad(monkeypatch, flip)
    path = card(16)
    with pytest.raises(
        ScanwrightError, match=rf"{path}: holds something else than was written at byte {at:,}"
    ):
        write_card(image, path, lambda _: None)
    with path.open("rb") as file:
        assert file.read(4096) == bytes(4096)


def test_a_card_smaller_than_it_says_is_caught(card, image, monkeypatch):
    # Forged cards take every write and lose those beyond what they have.
    bad(monkeypatch, lambda _d, offset, data: data if offset < 4 * MIB else None)
    with pytest.raises(ScanwrightError, match="holds something else"):
        write_card(image, card(16), lambda _: None)


def test_what_the_medium_lost_is_seen_although_the_kernel_remembers_it(card, image, tmp_path, monkeypatch):
    path = card(16)
    backing = losetup("--list", "--noheadings", "--output", "BACK-FILE", path)
    forget = device._forget

    def lose(descriptor: int) -> None:
        with open(backing, "r+b") as file:  # noqa: PTH123
            file.seek(MIB)
            file.write(b"lost")
            os.fsync(file.fileno())
        with path.open("rb") as file:
            file.seek(MIB)
            assert file.read(4) != b"lost", "a plain re-read would have passed"
        forget(descriptor)

    monkeypatch.setattr(device, "_forget", lose)
    with pytest.raises(ScanwrightError, match=f"byte {MIB:,}"):
        write_card(image, path, lambda _: None)


def test_a_card_pulled_in_the_middle_is_said(card, image, monkeypatch):
    write = os.pwrite

    def pulled(descriptor: int, data: memoryview, offset: int) -> int:
        if offset >= 4 * MIB:
            raise OSError(5, "Input/output error")
        return write(descriptor, data, offset)

    monkeypatch.setattr(device.os, "pwrite", pulled)
    path = card(16)
    with pytest.raises(ScanwrightError, match=r"was pulled out, or is broken .*write it again"):
        write_card(image, path, lambda _: None)


def test_a_mounted_card_is_not_written_even_if_it_was_mounted_after_the_look(card, image, tmp_path):
    path = card(16)
    subprocess.run(["mke2fs", "-q", "-F", path], check=True, timeout=30, env={"PATH": "/usr/sbin:/usr/bin"})
    (tmp_path / "mnt").mkdir()
    subprocess.run(["mount", path, tmp_path / "mnt"], check=True, timeout=30)
    try:
        with pytest.raises(BadInputError, match=r"is mounted on .*unmount it first"):
            check_disk(look_at(path), MIB, any_disk=True)
        with pytest.raises(ScanwrightError, match="is in use; unmount it first"):
            write_card(image, path, lambda _: None)
    finally:
        subprocess.run(["umount", tmp_path / "mnt"], check=True, timeout=30)


def test_a_loop_device_needs_to_be_admitted_and_room(card):
    disk = look_at(card(16))
    with pytest.raises(BadInputError, match="is not removable; --any-disk"):
        check_disk(disk, MIB)
    check_disk(disk, 16 * MIB, any_disk=True)
    with pytest.raises(BadInputError, match="take a larger card"):
        check_disk(disk, 17 * MIB, any_disk=True)


SAID: dict[str, Any] = {
    "path": "/dev/sda", "size": 31_000_000_000, "type": "disk", "rm": True, "hotplug": True, "ro": False,
    "tran": "usb", "vendor": "Generic ", "model": "Card Reader", "mountpoints": [None],
    "children": [{"path": "/dev/sda1", "mountpoints": [None]}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"children": [{"path": "/dev/sda2", "mountpoints": ["/"]}]}, "this system runs from it"),
        (
            {"children": [{"path": "/dev/sda2", "mountpoints": [None], "children": [
                {"path": "/dev/mapper/x", "mountpoints": ["[SWAP]"]}]}]},
            "this system runs from it",
        ),
        ({"mountpoints": ["/media/x"]}, "is mounted on /media/x"),
        ({"rm": False, "hotplug": False, "tran": "nvme"}, "not removable"),
        ({"ro": True}, "write-protected"),
        ({"type": "part"}, "give the whole disk"),
        ({"type": "rom"}, "is a rom"),
        ({"size": 1000}, "larger card"),
    ],
)  # fmt: skip
def test_a_disk_that_is_not_to_be_erased_is_refused(changes, words):
    check_disk(parse_disk(SAID), MIB)
    with pytest.raises(BadInputError, match=f"/dev/sda: .*{words}"):
        check_disk(parse_disk(SAID | changes), MIB)


def test_what_would_be_erased_is_said_in_words():
    assert parse_disk(SAID).in_words == "/dev/sda: Generic Card Reader, 31.0 GB, 1 partition"


def test_a_file_is_no_card(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(BadInputError, match="is no disk"):
        look_at(tmp_path / "x")


def test_the_disk_that_this_machine_runs_from_is_refused():
    found = subprocess.run(["findmnt", "-no", "SOURCE", "/"], capture_output=True, text=True, check=False)
    source = found.stdout.strip()
    if not source.startswith("/dev/"):
        return  # in a container the root is on no disk
    with pytest.raises(BadInputError):
        check_disk(look_at(Path(source)), 0, any_disk=True)
