"""Writing an image to a card, and believing nothing until it was read back from the medium itself."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import mmap
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import BadInputError, ScanwrightError

__all__ = ["Disk", "check_disk", "extents", "look_at", "parse_disk", "write_card"]

_BLOCK = 4 << 20
_FIRST = 4096  # written last: without a partition table, what was cut off in the middle starts nothing
_BLKFLSBUF = 0x1261  # linux/fs.h
_COLUMNS = "PATH,SIZE,TYPE,RM,HOTPLUG,RO,TRAN,VENDOR,MODEL,MOUNTPOINTS,PKNAME"


@dataclass(frozen=True)
class Disk:
    """A disk as the system describes it; ``size`` in bytes."""

    path: str
    size: int
    kind: str
    removable: bool
    read_only: bool
    name: str
    mounted: tuple[str, ...]
    parts: tuple[str, ...]

    @property
    def in_words(self) -> str:
        """What somebody recognises it by before erasing it."""
        parts = f"{len(self.parts)} partition{'s' * (len(self.parts) != 1)}"
        return f"{self.path}: {self.name or 'unnamed disk'}, {self.size / 1e9:.1f} GB, {parts}"


def look_at(path: Path) -> Disk:
    """What ``lsblk`` says of a disk.

    Raises:
        BadInputError: it is no block device.
    """
    if not path.is_block_device():
        raise BadInputError(f"{path}: is no disk; 'lsblk' lists those there are")
    command = ["lsblk", "--json", "--bytes", "--output", _COLUMNS, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadInputError(f"{path}: lsblk cannot tell what it is ({done.stderr.strip()})")
    return parse_disk(json.loads(done.stdout)["blockdevices"][0])


def parse_disk(said: dict[str, Any]) -> Disk:
    """A :class:`Disk` of one entry of ``lsblk --json``."""
    below = list(_all(said))
    name = " ".join(str(said.get(key) or "").strip() for key in ("vendor", "model")).strip()
    return Disk(
        path=said["path"],
        size=int(said["size"]),
        kind=said["type"],
        removable=bool(said["rm"] or said["hotplug"] or said["tran"] in ("usb", "mmc")),
        read_only=bool(said["ro"]),
        name=name,
        mounted=tuple(place for one in below for place in one.get("mountpoints") or () if place),
        parts=tuple(one["path"] for one in below[1:]),
    )


def check_disk(disk: Disk, needed: int, any_disk: bool = False) -> None:
    """Refuse a disk that is not to be erased; ``any_disk`` admits one that is not removable.

    Raises:
        BadInputError: it is no whole disk, mounted, the system's, not removable, read-only or too small.
    """
    if disk.kind not in ("disk", "loop"):
        raise BadInputError(f"{disk.path}: is a {disk.kind}; give the whole disk")
    if disk.mounted:
        system = {"/", "/boot", "/boot/firmware", "/boot/efi", "/usr", "/var", "/home", "[SWAP]"}
        if system & set(disk.mounted):
            raise BadInputError(f"{disk.path}: this system runs from it; it is not erased")
        raise BadInputError(f"{disk.path}: is mounted on {disk.mounted[0]}; unmount it first")
    if not disk.removable and not any_disk:
        raise BadInputError(f"{disk.path}: is not removable; --any-disk admits it")
    if disk.read_only:
        raise BadInputError(f"{disk.path}: is write-protected; look for a switch on the card or its adapter")
    if disk.size < needed:
        raise BadInputError(
            f"{disk.path}: holds {disk.size / 1e9:.1f} GB, but {needed / 1e9:.1f} GB are needed;"
            " take a larger card"
        )


def write_card(image: Path, disk: Path, advance: Callable[[int], None]) -> str:
    """Write ``image`` to ``disk`` and read it back; the SHA-256 of what the card holds.

    ``advance`` is called with bytes as they are written and again as they are read; both together are twice
    what :func:`extents` names. Holes of a sparse image are left as they are on the card.

    Raises:
        ScanwrightError: the disk is in use, was pulled out, refuses a block, or holds something else than
            was written; the card is then not to be used.
    """
    try:
        # O_EXCL on a block device: nobody has it mounted, and nobody can mount it meanwhile.
        descriptor = os.open(disk, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        raise ScanwrightError(f"{disk}: {_reason(error)}") from error
    try:
        return _write(image, disk, descriptor, advance)
    except OSError as error:
        raise ScanwrightError(f"{disk}: {_reason(error)}; the card is not usable, write it again") from error
    finally:
        os.close(descriptor)


def _all(said: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield said
    for child in said.get("children", ()):
        yield from _all(child)


def extents(image: Path) -> list[tuple[int, int]]:
    """Where a sparse file has data: offsets and lengths, in order."""
    found = []
    with image.open("rb") as file:
        at, size = 0, image.stat().st_size
        while at < size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break
                raise
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, at - start))
    return found


def _write(image: Path, disk: Path, descriptor: int, advance: Callable[[int], None]) -> str:
    _put(descriptor, 0, bytes(_FIRST))
    os.fsync(descriptor)
    wanted = hashlib.sha256()
    first = b""
    for offset, block in _blocks(image):
        wanted.update(block)
        if offset == 0:
            first, rest = block[:_FIRST], block[_FIRST:]
            _put(descriptor, _FIRST, rest)
        else:
            _put(descriptor, offset, block)
        advance(len(block))
    os.fsync(descriptor)
    # All but the first sectors is read from the medium before the card gets what makes it one.
    _compare(image, disk, descriptor, _FIRST, advance)
    _put(descriptor, 0, first)
    os.fsync(descriptor)
    _forget(descriptor)
    with _medium(disk) as medium:
        if medium(0, len(first)) != first:
            raise ScanwrightError(f"{disk}: holds something else than was written at byte 0; throw it away")
    return wanted.hexdigest()


def _compare(image: Path, disk: Path, descriptor: int, skip: int, advance: Callable[[int], None]) -> None:
    _forget(descriptor)
    with _medium(disk) as medium:
        for offset, block in _blocks(image):
            held = medium(offset, len(block))
            start = skip if offset == 0 else 0
            if held[start:] != block[start:]:
                at = next(i for i in range(start, len(block)) if held[i] != block[i])
                raise ScanwrightError(
                    f"{disk}: holds something else than was written at byte {offset + at:,}; throw it away"
                )
            advance(len(block))


def _blocks(image: Path) -> Iterator[tuple[int, bytes]]:
    with image.open("rb") as file:
        for start, length in extents(image):
            for offset in range(start, start + length, _BLOCK):
                file.seek(offset)
                yield offset, file.read(min(_BLOCK, start + length - offset))


def _put(descriptor: int, offset: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, offset)
        view, offset = view[done:], offset + done


def _forget(descriptor: int) -> None:
    """Drop what the kernel remembers of the disk: else the read-back reads memory."""
    try:
        fcntl.ioctl(descriptor, _BLKFLSBUF, 0)
    except PermissionError:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def _medium(disk: Path) -> Iterator[Callable[[int, int], bytes]]:
    """Reads past the page cache (O_DIRECT takes only aligned memory, offsets and lengths)."""
    descriptor = os.open(disk, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    buffer = mmap.mmap(-1, _BLOCK + 2 * _FIRST)

    def read(offset: int, length: int) -> bytes:
        start = offset // _FIRST * _FIRST
        wanted = -(-(offset + length - start) // _FIRST) * _FIRST
        with memoryview(buffer) as whole, whole[:wanted] as view:
            os.preadv(descriptor, [view], start)
        return buffer[offset - start : offset - start + length]

    try:
        yield read
    finally:
        os.close(descriptor)
        buffer.close()


def _reason(error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return "is in use; unmount it first"
    if error.errno in (errno.ENODEV, errno.ENXIO, errno.EIO, errno.ENOMEDIUM):
        return f"was pulled out, or is broken ({error.strerror})"
    if error.errno == errno.EACCES:
        return "may not be written by you; run this with sudo"
    return error.strerror or "cannot be written"
