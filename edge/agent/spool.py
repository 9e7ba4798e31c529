"""The spool: the DICOM originals, sealed, until they are forwarded and a stated rule lets them go."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.agent import store
from edge.agent.config import SpoolConfig
from edge.agent.database import Database
from edge.agent.identity import Identity
from edge.agent.room import NoRoomError
from edge.agent.vault import Vault
from edge.files import sync_folder
from edge.sources.base import file_sha256

__all__ = ["Custody", "Kept", "Purged", "Spool"]

Custody = Literal["archived", "waiting", "refused", "unknown"]
"""Of an instance: the archive has it; it is here and waits; the archive does not want it; never seen."""

_AGAIN_S = 86400.0  # one that the archive refused is tried again a day later


@dataclass(frozen=True)
class Kept:
    """One file of the spool: its name there, and the keyed hash of its study."""

    name: str
    study: str


@dataclass(frozen=True)
class Purged:
    """What a purge took away: files, their bytes, and how many of them had not been forwarded."""

    files: int
    bytes: int
    not_forwarded: int


class Spool:
    """A folder of sealed files, known by keyed hashes of their content, and their rows in the database.

    The rule of what goes: forwarded files older than ``days`` (every file that old, if nothing is to be
    forwarded); and whenever ``megabytes`` are exceeded or the disk has less than ``keep_free_megabytes``
    left, the oldest forwarded file first and, when there is none, the oldest. No new image is refused before
    that; one that finds no room after it is.
    """

    def __init__(
        self, folder: Path, database: Database, vault: Vault, identity: Identity, config: SpoolConfig,
        *, forwards: bool, least_mb: int = 0,
    ) -> None:  # fmt: skip
        """``forwards``: whether an archive is configured, so that files wait for it; ``least_mb`` stay free.

        Raises:
            OSError: the folder cannot be made or read.
        """
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder, self._database, self._vault, self._identity = folder, database, vault, identity
        self._config, self._forwards = config, forwards
        self._least = least_mb * 1_000_000
        known = {name for (name,) in database.read("SELECT name FROM original")}
        for path in folder.iterdir():
            if path.name not in known:  # a kill came before its row: its source gives it again
                path.unlink()

    def keep(self, path: Path, study: str, sop: str = "") -> Future[None] | None:
        """Seal a file into the spool, durably once the future resolves; None if it is there already.

        ``sop`` is its SOP Instance UID.

        Raises:
            OSError: it cannot be read, or is larger than the whole spool.
            NoRoomError: it cannot be written, even after :meth:`make_room`.
        """
        name = self._identity.mark(f"original:{file_sha256(path)}")
        if self._database.read("SELECT 1 FROM original WHERE name = ?", (name,)):
            return None
        size = path.stat().st_size
        if size > self._config.megabytes << 20:
            raise OSError(errno.EFBIG, "larger than the whole spool")
        partial = self._folder / f"{name}.part"
        if shutil.disk_usage(self._folder).free < size + self._least:
            raise NoRoomError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            with path.open("rb") as source, partial.open("wb") as target:
                self._vault.seal_stream(source, target, _context(name))
                target.flush()
                os.fsync(target.fileno())
            partial.replace(self._folder / name)
            sync_folder(self._folder)
        except OSError as error:  # it was read for its hash just now: it is the writing that failed
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise NoRoomError(error.errno, error.strerror) from error

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR IGNORE INTO original (name, study, bytes, created, sop) VALUES (?, ?, ?, ?, ?)",
                (name, study, size, time.time(), self._instance(sop)),
            )

        return self._database.write(write)

    def read(self, kept: Kept) -> Iterator[bytes]:
        """The chunks of an original, in order.

        Raises:
            OSError: the file is gone or cannot be read.
            VaultError: it is damaged.
        """
        with (self._folder / kept.name).open("rb") as file:
            yield from self._vault.open_stream(file, _context(kept.name))

    def next(self) -> Kept | None:
        """The oldest file that has still to be forwarded; then one refused longest ago, a day or more."""
        rows = self._database.read(
            "SELECT name, study FROM original WHERE forwarded IS NULL AND refused IS NULL"
            " ORDER BY seq LIMIT 1"
        ) or self._database.read(
            "SELECT name, study FROM original WHERE forwarded IS NULL AND refused < ?"
            " ORDER BY refused LIMIT 1",
            (time.time() - _AGAIN_S,),
        )
        return Kept(*rows[0]) if rows else None

    def waiting(self) -> int:
        """How many files have still to be forwarded."""
        return int(self._database.read("SELECT count(*) FROM original WHERE forwarded IS NULL")[0][0])

    def of(self, study: str) -> list[Kept]:
        """The files of a study, oldest first."""
        rows = self._database.read("SELECT name, study FROM original WHERE study = ? ORDER BY seq", (study,))
        return [Kept(*row) for row in rows]

    def mark(self, kept: Kept, *, forwarded: bool, sop: str = "") -> Future[None]:
        """Note that the archive has a file, which is remembered of its instance for good, or refuses it."""
        column = "forwarded" if forwarded else "refused"

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(f"UPDATE original SET {column} = ? WHERE name = ?", (time.time(), kept.name))
            if forwarded and sop:
                store.mark(connection, self._archived(sop))

        return self._database.write(write)

    def custody(self, sop: str) -> Custody:
        """Where an instance is, by its SOP Instance UID."""
        if self._database.read("SELECT 1 FROM seen WHERE mark = ?", (self._archived(sop),)):
            return "archived"
        rows = self._database.read(
            "SELECT min(refused IS NOT NULL) FROM original WHERE sop = ?", (self._instance(sop),)
        )
        return "unknown" if rows[0][0] is None else "refused" if rows[0][0] else "waiting"

    def _instance(self, sop: str) -> str:
        return self._identity.mark(f"instance:{sop}")

    def _archived(self, sop: str) -> str:
        return self._identity.mark(f"archived:{sop}")

    def make_room(self, size: int) -> Purged:
        """Purge by size for a file of ``size`` bytes that is to come.

        Raises:
            NoRoomError: the disk does not let go of a file.
        """
        total = int(self._database.read("SELECT coalesce(sum(bytes), 0) FROM original")[0][0])
        free = shutil.disk_usage(self._folder).free
        surplus = max(
            total + size - (self._config.megabytes << 20),
            (self._config.keep_free_megabytes << 20) + size - free,
        )
        rows = []
        if surplus > 0:
            for row in self._database.read(
                "SELECT name, bytes, forwarded FROM original ORDER BY forwarded IS NULL, seq"
            ):
                rows.append(row)
                surplus -= row[1]
                if surplus <= 0:
                    break
        return self._remove(rows)

    def purge(self) -> Purged:
        """Purge by age, by the wall clock."""
        oldest = time.time() - self._config.days * 86400
        which = "forwarded IS NOT NULL AND" if self._forwards else ""
        return self._remove(
            self._database.read(
                f"SELECT name, bytes, forwarded FROM original WHERE {which} created < ? ORDER BY seq",
                (oldest,),
            )
        )

    def _remove(self, rows: list[tuple[str, int, float | None]]) -> Purged:
        try:
            for name, _, _ in rows:
                (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise NoRoomError(error.errno, error.strerror) from error
        names = [(name,) for name, _, _ in rows]

        def delete(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM original WHERE name = ?", names)

        if names:
            self._database.write(delete).result()
        return Purged(len(rows), sum(row[1] for row in rows), sum(row[2] is None for row in rows))


def _context(name: str) -> str:
    return f"original:{name}"
