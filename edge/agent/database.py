"""The agent's one database file: numbered migrations, one durable writer with group commit, a reader."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from importlib.resources import files
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TypeVar

from edge.errors import ScanwrightError

__all__ = ["ClosedError", "Database"]

log = logging.getLogger(__name__)

Result = TypeVar("Result")
_Job = tuple[Callable[[sqlite3.Connection], Any], "Future[Any]"]

_GROUP = 256  # most actions in one commit, and most that wait for one
_RETRY_S = 1.0
_WAL_BYTES = 4 << 20  # what the write-ahead log shrinks to
_SLACK_PAGES = 1000  # unused pages that are kept for what comes
_SHRINK_PAGES = 2000  # most that are given back at once


class ClosedError(ScanwrightError):
    """The database was closed: the agent ends, or begins again with another configuration."""


class Database:
    """SQLite in WAL mode with synchronous FULL: what a resolved :meth:`write` did survives a power cut.

    Actions handed to :meth:`write` are run by one thread in the order given, as many as wait in one
    transaction. While the disk is full or fails they wait, and with them whoever writes more than 256 ahead;
    nothing is dropped. ``failing`` is True as long as that is so.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the database at ``path`` and bring it up to the newest schema.

        Raises:
            ScanwrightError: it cannot be opened, is damaged, or comes from a newer agent that says that this
                one cannot work on it.
        """
        self.path = path
        try:
            self._writer = _connect(path)
            _migrate(self._writer, path)
            self._reader = _connect(path)
            self._reader.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            raise ScanwrightError(f"{path}: the agent's database cannot be opened ({error})") from error
        self._reading = threading.Lock()
        self._jobs: Queue[_Job | None] = Queue(_GROUP)
        self._closing = threading.Event()
        self._watchers: list[Callable[[], None]] = []
        self._since: float | None = None
        self.failing = False
        self._thread = threading.Thread(target=self._run, name="database", daemon=True)
        self._thread.start()

    def write(self, action: Callable[[sqlite3.Connection], Result]) -> Future[Result]:
        """Run ``action`` in the writer's next transaction; the future resolves once that is on the disk.

        ``action`` only executes statements: it may run again if the transaction has to be repeated.

        Raises:
            ClosedError: the database is closed.
        """
        future: Future[Result] = Future()
        if self._closing.is_set() or not self._thread.is_alive():
            raise ClosedError(f"{self.path}: the agent's database is closed")
        self._jobs.put((action, future))
        return future

    def read(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query over what is committed.

        Raises:
            ClosedError: the database is closed.
        """
        if self._closing.is_set():
            raise ClosedError(f"{self.path}: the agent's database is closed")
        with self._reading, closing(self._reader.execute(sql, parameters)) as cursor:
            return cursor.fetchall()

    def hung_s(self) -> float:
        """How long the writer has been in one attempt to write, in seconds; long: the disk hangs."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def shrink(self) -> Future[None]:
        """Give unused room back to the disk, a part at each call."""

        def vacuum(connection: sqlite3.Connection) -> None:
            (unused,) = connection.execute("PRAGMA freelist_count").fetchone()
            # One page a call, however many are asked for: the pragma has no rows, so it is stepped once.
            for _ in range(min(unused - _SLACK_PAGES, _SHRINK_PAGES)):
                connection.execute("PRAGMA incremental_vacuum(1)")

        return self.write(vacuum)

    def watch(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` from the writer's thread after each commit; it must return at once."""
        self._watchers.append(callback)

    def close(self) -> None:
        """Commit what waits, and close."""
        if not self._closing.is_set():
            self._closing.set()
            self._jobs.put(None)
        self._thread.join()
        with self._reading:
            self._reader.close()
        self._writer.close()

    def _run(self) -> None:
        group: list[_Job] = []
        try:
            while True:
                group, last = self._next_group()
                self._commit(group)
                for callback in self._watchers:
                    callback()
                if last:
                    return
        except sqlite3.Error as error:
            log.error("the database has stopped", extra={"error": str(error)})
        finally:
            # Only after a failure is anything left here: let nobody wait for ever.
            while not self._jobs.empty():
                group += [job for job in [self._jobs.get()] if job]
            for _, future in group:
                if not future.done():
                    future.set_exception(ScanwrightError(f"{self.path}: the agent's database has stopped"))

    def _next_group(self) -> tuple[list[_Job], bool]:
        group: list[_Job] = []
        job = self._jobs.get()
        while job is not None and len(group) < _GROUP:
            group.append(job)
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return group, False
        if job is not None:
            group.append(job)
        return group, job is None

    def _commit(self, group: list[_Job]) -> None:
        while True:
            self._since = time.monotonic()
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                results = [action(self._writer) for action, _ in group]
                self._writer.execute("COMMIT")
                break
            except sqlite3.OperationalError as error:
                # Disk full, I/O error, locked: all may pass.
                if self._writer.in_transaction:
                    self._writer.rollback()
                if not self.failing:
                    log.error("the database cannot be written, trying again", extra={"error": str(error)})
                    self.failing = True
                self._since = None
                if self._closing.wait(_RETRY_S):
                    raise
        self._since, self.failing = None, False
        for (_, future), result in zip(group, results, strict=True):
            future.set_result(result)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file; see _migrate for an old one
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    return connection


def _oldest(connection: sqlite3.Connection) -> int:
    """The oldest schema whose agents can work on a file that a newer agent wrote."""
    return int(connection.execute("SELECT oldest FROM compatible").fetchone()[0])


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    scripts = sorted(
        (f for f in (files("edge.agent") / "migrations").iterdir() if f.name.endswith(".sql")),
        key=lambda f: f.name,
    )
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(scripts) and _oldest(connection) > len(scripts):
        raise ScanwrightError(f"{path}: written by a newer agent (schema {version}); install that version")
    for number, script in enumerate(scripts[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE;{script.read_text('utf-8')};PRAGMA user_version = {number};COMMIT;"
        )
    if connection.execute("PRAGMA auto_vacuum").fetchone() == (0,):
        with suppress(sqlite3.OperationalError):  # no room for a copy: at a later start
            connection.execute("VACUUM")
