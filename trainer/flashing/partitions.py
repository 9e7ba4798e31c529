"""Partition tables of card images: reading MBR and GPT, and adding a last partition to an MBR.

UEFI Specification 2.10, chapter 5: 5.2.1 (MBR) and 5.3 (GPT). Pure: bytes in, bytes out.
"""

from __future__ import annotations

import itertools
import struct
import uuid
import zlib
from dataclasses import dataclass
from typing import BinaryIO, Literal

from edge.errors import BadInputError

__all__ = ["SECTOR", "Partition", "Table", "extended", "read_table"]

SECTOR = 512
_MIB = 1 << 20
_ENTRIES_AT, _ENTRY = 446, struct.Struct("<B3sB3sII")
_EXTENDED, _PROTECTIVE, _LINUX = {0x05, 0x0F, 0x85}, 0xEE, 0x83
_HEADER = struct.Struct("<8s4sIIIQQQQ16sQIII")
_GPT_ENTRY = struct.Struct("<16s16sQQQ72s")
_MOST_ENTRIES = 1024


@dataclass(frozen=True)
class Partition:
    """One partition: its ``number`` as Linux counts, ``start`` and ``size`` in bytes, its type.

    ``kind`` is an MBR's type byte as two hexadecimal digits, or a GPT's type UUID; ``name`` only a GPT has.
    """

    number: int
    start: int
    size: int
    kind: str
    name: str = ""


@dataclass(frozen=True)
class Table:
    """A partition table."""

    scheme: Literal["mbr", "gpt"]
    partitions: tuple[Partition, ...]


def read_table(image: BinaryIO, size: int) -> Table:
    """The partitions of a seekable image of ``size`` bytes; sectors are of 512 bytes.

    Raises:
        BadInputError: it has no partition table, a damaged one, or ends before its partitions do.
    """
    if size < 2 * SECTOR:
        raise BadInputError("is too short to be a disk image")
    image.seek(0)
    first = image.read(SECTOR)
    if first[510:512] != b"\x55\xaa":
        raise BadInputError("is not a disk image: it has no partition table (is it still compressed?)")
    entries = [_ENTRY.unpack_from(first, _ENTRIES_AT + 16 * i) for i in range(4)]
    if any(kind == _PROTECTIVE for _, _, kind, _, _, _ in entries):
        table = Table("gpt", _gpt(image))
    else:
        table = Table("mbr", _mbr(entries))
    if not table.partitions:
        raise BadInputError("is not a card image: its partition table is empty")
    last = max(part.start + part.size for part in table.partitions)
    if last > size:
        raise BadInputError(f"is cut short: its partitions need {last:,} bytes, it has {size:,}")
    ordered = sorted(table.partitions, key=lambda part: part.start)
    if any(a.start + a.size > b.start for a, b in itertools.pairwise(ordered)):
        raise BadInputError("has a damaged partition table: two partitions overlap")
    return table


def extended(first: bytes, root: Partition, growth: int, size: int) -> tuple[bytes, Partition]:
    """An MBR image's first sector with a larger ``root`` and a new Linux partition after it; and the new one.

    ``root`` has to be the last on the disk; ``growth`` and ``size`` are bytes. The new one begins at a MiB.

    Raises:
        BadInputError: all four entries are taken, or the partition would lie beyond 2 TiB.
    """
    for index in range(4):
        at = _ENTRIES_AT + 16 * index
        if first[at : at + 16] == bytes(16):
            break
    else:
        raise BadInputError("has four partitions already: there is no room for the data partition")
    start = -(-(root.start + root.size + growth) // _MIB) * _MIB
    if (start + size) // SECTOR > 0xFFFFFFFF:
        raise BadInputError("is too large for its kind of partition table (2 TiB)")
    beyond = b"\xfe\xff\xff"  # cylinder, head and sector: "see the number of the sector"
    sector = bytearray(first)
    _ENTRY.pack_into(sector, at, 0, beyond, _LINUX, beyond, start // SECTOR, size // SECTOR)
    struct.pack_into("<I", sector, _ENTRIES_AT + 16 * root.number - 4, (start - root.start) // SECTOR)
    return bytes(sector), Partition(index + 1, start, size, f"{_LINUX:02x}")


def _mbr(entries: list[tuple[int, bytes, int, bytes, int, int]]) -> tuple[Partition, ...]:
    found = []
    for number, (status, _, kind, _, start, count) in enumerate(entries, 1):
        if status not in (0, 0x80):
            raise BadInputError("is not a card image: it begins with no partition table")
        if kind in _EXTENDED:
            raise BadInputError("has an extended partition, which no card image has; take the vendor's image")
        if kind and start and count:
            found.append(Partition(number, start * SECTOR, count * SECTOR, f"{kind:02x}"))
    return tuple(found)


def _gpt(image: BinaryIO) -> tuple[Partition, ...]:
    image.seek(SECTOR)
    raw = image.read(SECTOR)
    if len(raw) < _HEADER.size or raw[:8] != b"EFI PART":
        raise BadInputError("has a damaged partition table: the GPT's header is missing")
    header = _HEADER.unpack_from(raw)
    length, crc, entries_at, count, width, entries_crc = header[2], header[3], *header[10:14]
    if not _HEADER.size <= length <= SECTOR or zlib.crc32(raw[:16] + bytes(4) + raw[20:length]) != crc:
        raise BadInputError("has a damaged partition table: the GPT's header does not match its checksum")
    if width < _GPT_ENTRY.size or width > SECTOR or count > _MOST_ENTRIES:
        raise BadInputError("has a damaged partition table: its entries have an impossible size")
    image.seek(entries_at * SECTOR)
    block = image.read(count * width)
    if len(block) < count * width or zlib.crc32(block) != entries_crc:
        raise BadInputError("has a damaged partition table: the GPT's entries do not match their checksum")
    found = []
    for index in range(count):
        kind, _, first, last, _, name = _GPT_ENTRY.unpack_from(block, index * width)
        if kind != bytes(16):
            if last < first:
                raise BadInputError("has a damaged partition table: a partition ends before it begins")
            text = name.decode("utf-16-le", "replace").partition("\0")[0]
            size = (last - first + 1) * SECTOR
            found.append(Partition(index + 1, first * SECTOR, size, str(uuid.UUID(bytes_le=kind)), text))
    return tuple(found)
