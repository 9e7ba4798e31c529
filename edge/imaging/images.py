"""Image files that are no DICOM: PNG, JPEG, BMP, TIFF and PNM, complete or not at all."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from edge.imaging.display import table_to_8_bit
from edge.imaging.errors import UnreadableImageError
from edge.imaging.frame import Pixels
from edge.imaging.limits import check_size

__all__ = ["decode_bytes"]

# What goes wrong is raised here with the file's name; OpenCV would also print it, without.
cv2.setLogLevel(1)  # fatal errors only


class _Shape(NamedTuple):
    rows: int
    columns: int
    samples: int


class _DamagedError(Exception):
    """The container is not whole; the text says what is wrong with it."""


def decode_bytes(data: bytes, name: str) -> Pixels:
    """Decode the bytes of an image file; which format it is, its content says.

    Transparency is dropped, an EXIF orientation applied, CMYK converted to RGB. Sixteen bits a sample are
    stretched: the image's least value becomes 0 and its greatest 255.

    Args:
        data: all bytes of the file.
        name: of the file, for messages.

    Returns:
        uint8 ``[H, W]``, or RGB ``[H, W, 3]``.

    Raises:
        UnreadableImageError: empty, no image, cut off, damaged, too large, or of a kind not read here.
    """
    if not data:
        raise UnreadableImageError(f"{name}: the file is empty")
    check = next((check for magic, check in _FORMATS if re.match(magic, data, re.DOTALL)), None)
    if check is None:
        raise UnreadableImageError(f"{name}: {_what_else(data)}; give PNG, JPEG, BMP, TIFF, PNM or DICOM")
    try:
        shape = check(data)
    except _DamagedError as error:
        raise UnreadableImageError(f"{name}: {error}") from error
    except (struct.error, IndexError) as error:
        raise UnreadableImageError(f"{name}: the file is cut off in its header") from error
    check_size(name, *shape)
    try:
        # cv2.error and MemoryError: limits of its own, and sizes the header lied about.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    except (cv2.error, MemoryError) as error:
        raise UnreadableImageError(f"{name}: the image cannot be decoded") from error
    if pixels is None or pixels.size == 0:
        raise UnreadableImageError(f"{name}: the image cannot be decoded: it is damaged or of a rare kind")
    if pixels.dtype == np.uint16:
        pixels = table_to_8_bit(np.arange(2**16), int(pixels.min()), int(pixels.max()))[pixels]
    if pixels.dtype != np.uint8:
        raise UnreadableImageError(f"{name}: samples of type {pixels.dtype}; give 8 or 16 bits a sample")
    return np.asarray(pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def _what_else(data: bytes) -> str:
    start = data[:512]
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in start):
        return "a text file, not an image"
    return "not an image of a known kind"


def _png(data: bytes) -> _Shape:
    at, ended = 8, False
    while not ended:
        size, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + size
        if end > len(data):
            raise _DamagedError("the PNG file is cut off")
        if zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise _DamagedError("the PNG file is damaged (a checksum is wrong)")
        at, ended = end, kind == b"IEND"
    columns, rows, _, colour = struct.unpack_from(">IIBB", data, 16)
    return _Shape(rows, columns, 1 if colour in (0, 4) else 3)


_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")


def _jpeg(data: bytes) -> _Shape:
    shape, at = None, 2
    while found := _JPEG_MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if marker == 0xD9:
            break
        (size,) = struct.unpack_from(">H", data, at)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            _, rows, columns, samples = struct.unpack_from(">BHHB", data, at + 2)
            shape = _Shape(rows, columns, samples)
        at += size
    else:
        raise _DamagedError("the JPEG file is cut off")
    if shape is None:
        raise _DamagedError("the JPEG file is damaged: it has no frame header")
    return shape


def _bmp(data: bytes) -> _Shape:
    (file_size,) = struct.unpack_from("<I", data, 2)
    (header,) = struct.unpack_from("<I", data, 14)
    columns, rows, _, bits = struct.unpack_from("<HHHH" if header == 12 else "<iiHH", data, 18)
    compressed = header > 12 and struct.unpack_from("<I", data, 30)[0] in (1, 2)
    (offset,) = struct.unpack_from("<I", data, 10)
    pixel_bytes = 0 if compressed else (abs(columns) * bits + 31) // 32 * 4 * abs(rows)
    if len(data) < max(file_size, offset + pixel_bytes):
        raise _DamagedError("the BMP file is cut off")
    return _Shape(abs(rows), abs(columns), 3)


_TIFF_TYPES = {1: "B", 3: "H", 4: "I"}


def _tiff(data: bytes) -> _Shape:
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    tags: dict[int, int] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if kind in _TIFF_TYPES:
            (tags[tag],) = struct.unpack_from(order + _TIFF_TYPES[kind], data, entry + 8)
    if struct.unpack_from(order + "I", data, at + 2 + 12 * count)[0]:
        raise _DamagedError("the TIFF file has several pages; give each page its own file")
    if tags.get(262) == 0 and tags.get(258) == 16:  # OpenCV would show it inverted
        raise _DamagedError(
            "a 16-bit TIFF file in which 0 is white is not read here; save it with 0 as black"
        )
    return _Shape(tags.get(257, 0), tags.get(256, 0), 3)


_PNM_HEADER = re.compile(rb"P([1-6])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)")


def _pnm(data: bytes) -> _Shape:
    header = _PNM_HEADER.match(data[:4096])
    if header is None or max(len(header[2]), len(header[3])) > 9:
        raise _DamagedError("the PNM file is damaged in its header")
    return _Shape(int(header[3]), int(header[2]), 3 if header[1] in b"36" else 1)


_FORMATS: tuple[tuple[bytes, Callable[[bytes], _Shape]], ...] = (
    (rb"\x89PNG\r\n\x1a\n", _png),
    (rb"\xff\xd8\xff", _jpeg),
    (rb"BM.{12}", _bmp),
    (rb"II\*\0|MM\0\*", _tiff),
    (rb"P[1-6][\s#]", _pnm),
)
