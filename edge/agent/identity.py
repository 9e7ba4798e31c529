"""Keyed hashes that stand for images and studies outside the device, and the device's secret they need."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from edge.errors import BadInputError, ScanwrightError
from edge.files import write_durably

__all__ = ["Identity", "device_secret"]

_SECRET_BYTES = 32
# Digits and capitals without I, L, O and U, which are misread (Crockford's base 32).
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def device_secret(path: Path, without: str = "to give all images new ids") -> bytes:
    """A 32-byte secret of the device, made on first use: readable by its owner alone, and durable.

    With another secret every image would get another id, or nothing sealed could be opened, so a damaged one
    is never replaced in silence. ``without`` says what removing it would do.

    Raises:
        BadInputError: the file is there but does not hold 32 bytes.
        ScanwrightError: it cannot be read or made.
    """
    try:
        if not path.exists():
            write_durably(path, os.urandom(_SECRET_BYTES))
        secret = path.read_bytes()
    except OSError as error:
        raise ScanwrightError(f"{path}: the device's secret cannot be used ({error.strerror})") from error
    if len(secret) != _SECRET_BYTES:
        raise BadInputError(
            f"{path}: the device's secret is damaged ({len(secret)} bytes instead of {_SECRET_BYTES});"
            f" restore it, or remove it {without}"
        )
    return secret


class Identity:
    """Hashes keyed with the device's secret: HMAC-SHA256 (RFC 2104), cut to 32 hex digits."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def finding(self, bundle: str, version: str, frame: str) -> str:
        """The id of a finding: the same for the same bundle and frame identity."""
        return self._hash("finding", bundle, version, frame)

    def study(self, study: str) -> str:
        """What stands for a study."""
        return self._hash("study", study)

    def mark(self, key: str) -> str:
        """What stands for something seen (a file, a clip) in the device's own database."""
        return self._hash("mark", key)

    def case_code(self, study: str) -> str:
        """A short code for people, such as ``7K2M-Q4XP``: 40 bits, so that two rarely agree."""
        value = int(self._hash("case", study)[:10], 16)
        code = "".join(_ALPHABET[value >> shift & 31] for shift in range(35, -1, -5))
        return f"{code[:4]}-{code[4:]}"

    def _hash(self, *parts: str) -> str:
        # Lengths first: no two lists of parts make the same message.
        encoded = [part.encode("utf-8", "surrogateescape") for part in parts]
        message = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()[:32]
