"""The lock of the screen: a PIN, and how long after it names are shown."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.errors import BadInputError, ScanwrightError
from edge.files import write_durably

__all__ = ["OPEN_S", "Lock", "Opened", "read_pin", "write_pin"]

OPEN_S = 300.0
"""After this the lock closes by itself, whatever is done meanwhile."""

_PIN = re.compile(r"[0-9]{6,12}")
_N, _R, _P = 1 << 15, 8, 1  # RFC 7914; 32 MiB and a tenth of a second on a board
_TRIES = 3  # wrong ones that cost no time
_WAIT_S = (30.0, 3600.0)  # after the next one, doubling up to
_SESSIONS = 8


@dataclass(frozen=True)
class Opened:
    """An open lock: ``token`` is the session's, ``until`` the wall clock's time in seconds when it closes."""

    token: str
    until: float


class Lock:
    """Opens to one PIN for five minutes. Wrong PINs cost time for all: they try the same door."""

    def __init__(self, check: Callable[[str], bool], clock: Callable[[], float] = time.monotonic) -> None:
        """``check`` says whether a PIN is the right one (see :func:`read_pin`); ``clock`` is monotonic."""
        self._check, self._clock = check, clock
        self._sessions: dict[str, tuple[float, Opened]] = {}
        self._wrong = 0
        self._again = 0.0
        self._trying = threading.Lock()

    def wait_s(self) -> float:
        """How long until a PIN is looked at again; 0 when one may be given."""
        return max(0.0, self._again - self._clock())

    def open(self, pin: str) -> Opened | None:
        """Open; None for a wrong PIN, or while none is looked at."""
        with self._trying:
            if self.wait_s():
                return None
            if not (_PIN.fullmatch(pin) and self._check(pin)):
                self._wrong += 1
                if self._wrong > _TRIES:
                    wait = min(_WAIT_S[0] * 2 ** (self._wrong - _TRIES - 1), _WAIT_S[1])
                    self._again = self._clock() + wait
                return None
            self._wrong = 0
            opened = Opened(secrets.token_urlsafe(32), time.time() + OPEN_S)
            while len(self._sessions) >= _SESSIONS:
                self._sessions.pop(next(iter(self._sessions)), None)
            self._sessions[opened.token] = (self._clock() + OPEN_S, opened)
            return opened

    def opened(self, token: str | None) -> Opened | None:
        """The open lock of a session's token; None when it is closed."""
        ends, opened = self._sessions.get(token or "", (0.0, None))
        return opened if self._clock() < ends else None

    def close(self, token: str | None) -> None:
        """Close a session before its time."""
        self._sessions.pop(token or "", None)


def write_pin(path: Path, pin: str) -> None:
    """Keep the scrypt hash of a PIN in ``path``, readable by its owner alone.

    Raises:
        BadInputError: it is not of 6 to 12 digits.
        ScanwrightError: the file cannot be written.
    """
    if not _PIN.fullmatch(pin):
        raise BadInputError("a PIN is of 6 to 12 digits")
    salt = os.urandom(16)
    kept = {"n": _N, "r": _R, "p": _P, "salt": salt.hex(), "hash": _hash(pin, salt, _N, _R, _P).hex()}
    try:
        write_durably(path, json.dumps({"scrypt": kept}).encode())
    except OSError as error:
        raise ScanwrightError(f"{path}: the PIN cannot be written ({error.strerror})") from error


def read_pin(path: Path) -> Callable[[str], bool]:
    """The check for the PIN that :func:`write_pin` kept.

    Raises:
        BadInputError: the file is missing or is none of its.
    """
    try:
        kept = json.loads(path.read_bytes())["scrypt"]
        n, r, p = (int(kept[name]) for name in "nrp")
        salt, right = bytes.fromhex(kept["salt"]), bytes.fromhex(kept["hash"])
        _hash("", salt, n, r, p)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise BadInputError(
            f"screen.pin_file: {path} cannot be used; make it by 'scanwright agent pin'"
        ) from error
    return lambda pin: hmac.compare_digest(_hash(pin, salt, n, r, p), right)


def _hash(pin: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(pin.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)
