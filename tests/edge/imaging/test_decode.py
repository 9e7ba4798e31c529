"""Image files and what only looks like one: decoded whole, or refused with one line."""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.bundle.reasons import Reason
from edge.imaging.decode import decode_file, decode_image
from edge.imaging.errors import UnreadableImageError
from edge.imaging.frame import Pixels
from edge.imaging.images import decode_bytes

# 8 x 8, magenta and yellow ink: red. Adobe's inverted CMYK, as printing programs write it.
_CMYK = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAKBwcIBwYKCAgICwoKCw4YEA4NDQ4dFRYRGCMfJSQiHyIhJis3LyYpNCkhIjBBMTQ5Oz4+PiUu"
    "RElDPEg3PT47/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EABQAAQAAAAAAAAAAAAAAAAAAAAf/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/9oA"
    "DgRDAE0AWQBLAAA/AGYMhkzP/9k="
)
_LOSSLESS = (".png", ".bmp", ".tiff", ".pnm")


def _picture(colour: bool, dtype: type = np.uint8) -> Pixels:
    random = np.random.default_rng(5)
    return random.integers(0, np.iinfo(dtype).max, (13, 9, 3) if colour else (13, 9), dtype)


def _encode(suffix: str, pixels: Pixels) -> bytes:
    bgr = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., ::-1])
    return bytes(cv2.imencode(suffix, bgr)[1])


def _png_header(rows: int, columns: int) -> bytes:
    data = _encode(".png", _picture(False))
    chunk = b"IHDR" + struct.pack(">II", columns, rows) + data[24:29]
    return data[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("suffix", _LOSSLESS)
def test_lossless_files_come_out_as_they_went_in(suffix: str, colour: bool, tmp_path: Path) -> None:
    pixels = _picture(colour)
    path = tmp_path / "named.wrong"
    path.write_bytes(_encode(suffix, pixels))
    np.testing.assert_array_equal(decode_image(path), pixels)


def test_a_frame_of_an_image_is_named_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_encode(".png", _picture(True)))
    (frame,) = decode_file(path, "folder")
    identity = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}#0"
    assert (frame.identity, frame.study, frame.source, frame.index) == (identity, identity, "folder", 0)
    np.testing.assert_array_equal(frame.pixels, _picture(True))


def test_sixteen_bits_are_stretched_from_least_to_greatest() -> None:
    pixels = np.array([[1000, 1001, 1002], [1509, 1510, 1510]], np.uint16)
    expected = [[0, 1, 1], [255, 255, 255]]  # (510 * v + 510) // 1020: 1/510 rounds up to 1, 509/510 to 255
    np.testing.assert_array_equal(decode_bytes(_encode(".png", pixels), "x"), expected)
    flat = np.full((4, 4), 777, np.uint16)
    assert not decode_bytes(_encode(".tiff", flat), "x").any()


def test_transparency_is_dropped() -> None:
    pixels = _picture(True)
    rgba = np.dstack([pixels[..., ::-1], np.full(pixels.shape[:2], 3, np.uint8)])
    np.testing.assert_array_equal(decode_bytes(bytes(cv2.imencode(".png", rgba)[1]), "x"), pixels)


def test_exif_orientation_is_applied() -> None:
    upright = np.zeros((16, 32), np.uint8)
    upright[:, 16:] = 255
    jpeg = _encode(".jpg", upright)
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)  # 6: turn right
    exif = b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff
    turned = decode_bytes(jpeg[:2] + exif + jpeg[2:], "x")
    assert turned.shape == (32, 16)
    assert turned[:12].max() < 20 and turned[20:].min() > 235


def test_cmyk_becomes_rgb() -> None:
    red = decode_bytes(_CMYK, "x")
    assert red.shape == (8, 8, 3)
    np.testing.assert_allclose(red[4, 4], [255, 0, 0], atol=8)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("suffix", [*_LOSSLESS, ".jpg"])
def test_a_file_cut_off_anywhere_is_refused(suffix: str, colour: bool) -> None:
    data = _encode(suffix, _picture(colour))
    for length in range(len(data)):
        with pytest.raises(UnreadableImageError):
            decode_bytes(data[:length], "x")


def test_a_changed_byte_of_a_png_is_refused() -> None:
    data = bytearray(_encode(".png", _picture(False)))
    data[60] ^= 1
    with pytest.raises(UnreadableImageError, match="checksum"):
        decode_bytes(bytes(data), "x")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"Patient was seen on Monday.\n" * 9, "a text file"),
        (b"GIF89a" + bytes(90), "not an image of a known kind"),
        (bytes(200), "not an image of a known kind"),
        (b"\x89PNG\r\n\x1a\n", "cut off"),
        (b"P5\n0 7\n255\n", "without pixels"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    for decode in (decode_image, lambda path: next(decode_file(path, "folder"))):
        with pytest.raises(UnreadableImageError, match=says) as caught:
            decode(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ") and "\n" not in message
        assert caught.value.reason is Reason.UNREADABLE and caught.value.exit_code == 2


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(UnreadableImageError, match="cannot be read"):
            next(decode_file(path, "folder"))
        with pytest.raises(UnreadableImageError, match="cannot be read"):
            decode_image(path)


@pytest.mark.parametrize("content", [_png_header(9000, 9000), b"P6\n99999 99999\n255\n", b"P4 60000 60000 "])
def test_a_header_that_claims_too_much_is_refused_before_decoding(content: bytes) -> None:
    with pytest.raises(UnreadableImageError, match="too large") as caught:
        decode_bytes(content, "x")
    assert caught.value.reason is Reason.TOO_LARGE


def test_what_would_be_shown_wrongly_is_refused() -> None:
    floats = bytes(cv2.imencode(".tiff", np.ones((4, 4), np.float32))[1])
    with pytest.raises(UnreadableImageError, match="float32"):
        decode_bytes(floats, "x")
    pages = bytes(cv2.imencodemulti(".tiff", [_picture(False), _picture(False)])[1])
    with pytest.raises(UnreadableImageError, match="several pages"):
        decode_bytes(pages, "x")
    white_is_zero = bytearray(cv2.imencode(".tiff", np.eye(4, dtype=np.uint16))[1])
    photometric = white_is_zero.index(struct.pack("<HHIH", 262, 3, 1, 1))
    white_is_zero[photometric + 8] = 0
    with pytest.raises(UnreadableImageError, match="0 is white"):
        decode_bytes(bytes(white_is_zero), "x")


_whole = st.sampled_from(
    [_encode(suffix, _picture(colour)) for suffix in (*_LOSSLESS, ".jpg") for colour in (False, True)]
    + [_CMYK]
)
_edits = st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4)), max_size=3)


@settings(max_examples=400, deadline=None)
@given(data=st.one_of(st.binary(max_size=300), _whole), edits=_edits, keep=st.integers(0, 2000))
@example(data=b"BM" + bytes(60), edits=[], keep=62)
@example(data=b"II*\0" + b"\xff" * 40, edits=[], keep=44)
@example(data=b"\xff\xd8\xff\xd9", edits=[], keep=4)
def test_no_bytes_raise_anything_else(data: bytes, edits: list[tuple[int, bytes]], keep: int) -> None:
    for at, insert in edits:
        data = data[:at] + insert + data[at + len(insert) :]
    try:
        pixels = decode_bytes(data[:keep], "x")
    except UnreadableImageError as error:
        assert str(error).startswith("x: ")
    else:
        assert pixels.dtype == np.uint8 and pixels.size and pixels.shape[2:] in ((), (3,))
