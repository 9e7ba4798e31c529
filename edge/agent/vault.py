"""The vault: what identifies a patient is sealed with a key of this device before it touches the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge.errors import ScanwrightError

__all__ = ["Vault", "VaultError"]

_NONCE = 12  # bytes, as NIST SP 800-38D recommends; random, so at most 2^32 seals a key
_TAG = 16
_CHUNK = 1 << 20


class VaultError(ScanwrightError):
    """Something sealed was changed, cut off, moved from its place, or sealed with another key."""


class Vault:
    """AES-256-GCM (NIST SP 800-38D) with the device's key; ``context`` is what something is sealed as.

    The context is authenticated but not kept: something sealed opens only as what it was sealed. Whoever
    destroys the key destroys all that was sealed with it.
    """

    def __init__(self, key: bytes) -> None:
        """``key``: 32 bytes."""
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes, context: str) -> bytes:
        """``plain`` sealed: 28 bytes more."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """What was sealed.

        Raises:
            VaultError: see there.
        """
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], context.encode())
        except (InvalidTag, ValueError) as error:
            raise VaultError(
                "something sealed cannot be opened: it is damaged, or the device's key is another one"
            ) from error

    def seal_stream(self, source: BinaryIO, target: BinaryIO, context: str) -> None:
        """Seal a stream of any length in chunks of 1 MiB, so that it never has to be in memory whole."""
        index = 0
        block = source.read(_CHUNK)
        while True:
            following = source.read(_CHUNK)
            target.write(self.seal(block, _part(context, index, last=not following)))
            if not following:
                return
            block, index = following, index + 1

    def open_stream(self, source: BinaryIO, context: str) -> Iterator[bytes]:
        """The chunks of what :meth:`seal_stream` sealed; complete only when exhausted.

        Raises:
            VaultError: a chunk is damaged, missing or out of place; what came before was right.
        """
        index = 0
        block = source.read(_NONCE + _CHUNK + _TAG)
        while True:
            following = source.read(_NONCE + _CHUNK + _TAG)
            yield self.open(block, _part(context, index, last=not following))
            if not following:
                return
            block, index = following, index + 1


def _part(context: str, index: int, *, last: bool) -> str:
    return f"{context}:{index}:{'last' if last else 'more'}"
