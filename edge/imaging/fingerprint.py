"""Fingerprints of images: short hashes by which a model knows the images it was trained on."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable

import numpy as np

from edge.bundle.manifest import Fingerprint
from edge.errors import BadInputError
from edge.imaging.frame import Pixels

__all__ = ["decode_hashes", "encode_hashes", "pixel_hash"]

_SIZE = 6


def pixel_hash(pixels: Pixels) -> bytes:
    """The first 6 bytes of SHA-256 over the shape (little-endian int32 each) and then the pixels, row by row.

    Args:
        pixels: uint8 ``[H, W]`` or ``[H, W, 3]``, as decoded, before any step.
    """
    digest = hashlib.sha256(np.array(pixels.shape, "<i4").tobytes())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()[:_SIZE]


def encode_hashes(hashes: Iterable[bytes]) -> Fingerprint:
    """Put hashes of :func:`pixel_hash` into a manifest's form; the same image twice counts once."""
    distinct = sorted(set(hashes))
    return Fingerprint(count=len(distinct), hashes=base64.b64encode(b"".join(distinct)).decode("ascii"))


def decode_hashes(fingerprint: Fingerprint) -> set[bytes]:
    """The hashes of a manifest's fingerprint.

    Raises:
        BadInputError: its text is not the base64 of so many hashes.
    """
    try:
        joined = base64.b64decode(fingerprint.hashes, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInputError("training fingerprint: hashes are not base64") from error
    if len(joined) != _SIZE * fingerprint.count:
        raise BadInputError(
            f"training fingerprint: {len(joined)} bytes, expected {_SIZE} for each of {fingerprint.count}"
        )
    return {joined[i : i + _SIZE] for i in range(0, len(joined), _SIZE)}
