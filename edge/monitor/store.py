"""The monitor's findings: one SQLite file that one receiver at a time writes."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from edge.errors import BadInputError, ScanwrightError
from edge.mqtt.payloads import Finding

__all__ = ["Store", "store_path"]

_PREFIX = "sqlite:///"
_VERSION = 1
_SCHEMA = f"""
BEGIN IMMEDIATE;
-- Findings as they came, the first of each id. An id is the device's own: another device cannot take it.
CREATE TABLE finding (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    site TEXT NOT NULL,
    device TEXT NOT NULL,
    id TEXT NOT NULL,
    received REAL NOT NULL,
    payload TEXT NOT NULL,
    UNIQUE (site, device, id)
);
-- The name of this store at the broker, which keeps for it what arrives while it is away.
CREATE TABLE receiver (name TEXT NOT NULL);
PRAGMA user_version = {_VERSION};
COMMIT;
"""


def store_path(url: str) -> Path:
    """The file that ``sqlite:///PATH`` names; with a fourth slash the path is absolute.

    Raises:
        BadInputError: another URL.
    """
    if not url.startswith(_PREFIX) or url == _PREFIX:
        raise BadInputError(f"--store {url}: give sqlite:///PATH; other stores are not there yet")
    return Path(url.removeprefix(_PREFIX))


class Store:
    """SQLite in WAL mode with synchronous FULL: what :meth:`keep` returned from survives a power cut.

    Used by one thread. ``name`` is the store's own, the same as long as it exists.
    """

    def __init__(self, path: Path) -> None:
        """Open or create it and hold it for this process.

        Raises:
            BadInputError: the file cannot be made or written.
            ScanwrightError: another receiver has it, it is damaged, or a newer program wrote it.
        """
        try:
            self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BadInputError(f"--store {path}: cannot be written ({error.strerror})") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._database = sqlite3.connect(path, timeout=2, isolation_level=None)
            self.name = self._prepare(path)
        except BlockingIOError as error:
            os.close(self._lock)
            raise ScanwrightError(f"--store {path}: another monitor uses it; stop that one first") from error
        except sqlite3.Error as error:
            os.close(self._lock)
            raise ScanwrightError(f"--store {path}: cannot be opened ({error})") from error

    def keep(self, findings: Iterable[tuple[Finding, str]]) -> int:
        """Store findings, each with its payload, in one commit; how many were new.

        Raises:
            sqlite3.OperationalError: it cannot be written for now; nothing of this call was kept.
        """
        now = time.time()
        rows = [(f.site, f.device, f.id, now, payload) for f, payload in findings]
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            return self._database.executemany(
                "INSERT OR IGNORE INTO finding (site, device, id, received, payload) VALUES (?, ?, ?, ?, ?)",
                rows,
            ).rowcount

    def count(self) -> int:
        """How many findings it has."""
        return int(self._database.execute("SELECT count(*) FROM finding").fetchone()[0])

    def close(self) -> None:
        """Let it go."""
        self._database.close()
        os.close(self._lock)

    def _prepare(self, path: Path) -> str:
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise ScanwrightError(f"--store {path}: written by a newer monitor; install that version")
        if version == 0:
            self._database.executescript(_SCHEMA)
        self._database.execute(
            "INSERT INTO receiver SELECT ? WHERE NOT EXISTS (SELECT 1 FROM receiver)", (uuid.uuid4().hex,)
        )
        return str(self._database.execute("SELECT name FROM receiver").fetchone()[0])
