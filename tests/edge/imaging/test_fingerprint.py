"""Fingerprints: of pixels and shape, distinct, and back."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from edge.bundle.manifest import Fingerprint
from edge.errors import BadInputError
from edge.imaging.fingerprint import decode_hashes, encode_hashes, pixel_hash


def test_the_hash_covers_shape_and_pixels() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    content = b"\x03\0\0\0\x04\0\0\0" + bytes(range(12))
    assert pixel_hash(pixels) == hashlib.sha256(content).digest()[:6]
    assert pixel_hash(pixels) != pixel_hash(pixels.reshape(4, 3))
    assert pixel_hash(pixels[:, ::-1]) == pixel_hash(pixels[:, ::-1].copy())


def test_hashes_come_back_once_each_in_one_order() -> None:
    hashes = [bytes([value]) * 6 for value in (9, 1, 5, 9)]
    fingerprint = encode_hashes(hashes)
    assert fingerprint == encode_hashes(reversed(hashes)) and fingerprint.count == 3
    assert decode_hashes(fingerprint) == set(hashes)
    assert decode_hashes(encode_hashes([])) == set()


@pytest.mark.parametrize(("count", "hashes"), [(1, "????"), (2, "AAAAAAAA"), (0, "AAAA"), (1, "é")])
def test_a_damaged_fingerprint_is_refused(count: int, hashes: str) -> None:
    with pytest.raises(BadInputError, match="fingerprint"):
        decode_hashes(Fingerprint(count=count, hashes=hashes))
