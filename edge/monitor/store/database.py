"""The database: SQLite by default, PostgreSQL by URL; numbered migrations, one writer with group commits."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    Executable,
    MetaData,
    Table,
    create_engine,
    event,
    inspect,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from edge.errors import BadInputError, ScanwrightError

__all__ = ["Database", "Result", "UnavailableError"]

log = logging.getLogger(__name__)

Result = TypeVar("Result")
_Job = tuple[Callable[[Connection], Any], "Future[Any]"]

_GROUP = 256  # most actions in one commit
_BUSY_S = 2.0  # how long SQLite waits for another program's commit
_CONNECT_S = 5
_UNUSABLE_MS = 15_000  # PostgreSQL's machine does not answer
_DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg"}
_WORDS = {
    "sqlite": {"serial": "INTEGER PRIMARY KEY AUTOINCREMENT", "bytes": "BLOB", "real": "DOUBLE PRECISION"},
    "postgresql": {
        "serial": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "bytes": "BYTEA",
        "real": "DOUBLE PRECISION",
    },
}
_NO_STORE = "there is no store here; name the monitor's, or make one by 'scanwright monitor user add'"
_MIGRATING = 0x5CA17  # PostgreSQL's advisory lock, of any number that is ours


class UnavailableError(ScanwrightError):
    """The store cannot be read or written for now; nothing of the call was kept."""


class Database:
    """What a resolved :meth:`write` did survives a power cut (SQLite: WAL, synchronous FULL).

    ``tables`` are those of the migrations, as SQLAlchemy tables by name; ``name`` is the store's own, the
    same as long as it exists.
    """

    def __init__(self, url: str, *, receives: bool = False, create: bool = True) -> None:
        """Open or create it and bring it up to the newest schema. ``receives``: findings go in here; of a
        SQLite file only one program at a time may do that. Without ``create`` it has to be there already.

        Raises:
            BadInputError: the URL is none, the file cannot be made, or is not there and not to be made.
            ScanwrightError: another receiver has it, it is damaged or cannot be reached, or a newer program
                wrote it.
        """
        self.url, self._where = _parsed(url)
        self._lock: int | None = None
        self.kind = self.url.get_backend_name()
        if self.kind == "sqlite":
            path = Path(str(self.url.database))
            if not create and not path.exists():
                raise BadInputError(f"{self._where}: {_NO_STORE}")
            self._lock = _hold(path, self._where) if receives else None
        try:
            self._writer, self._reader = _engine(self.url, "BEGIN IMMEDIATE"), _engine(self.url, "BEGIN")
            with self._writer.begin() as connection:
                _migrate(connection, self._where, create)
                self.name = _named(connection)
                metadata = MetaData()
                metadata.reflect(connection)
        except SQLAlchemyError as error:
            self._let_go()
            raise ScanwrightError(f"{self._where}: cannot be opened ({_said(error)})") from error
        except ScanwrightError:
            self._let_go()
            raise
        self.tables: dict[str, Table] = dict(metadata.tables)
        self._jobs: Queue[_Job | None] = Queue(_GROUP)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def write(self, action: Callable[[Connection], Result]) -> Future[Result]:
        """Run ``action`` in the writer's next transaction, with what else waits; the future resolves once
        that is committed. ``action`` only executes statements: it may run again.

        The future raises UnavailableError where the store cannot be written for now.
        """
        future: Future[Result] = Future()
        if self._closing.is_set():
            future.set_exception(UnavailableError(f"{self._where}: is closed"))
        else:
            self._jobs.put((action, future))
        return future

    def read(self, query: Executable, parameters: dict[str, Any] | None = None) -> Sequence[Any]:
        """Rows of a query over what is committed; from any thread.

        Raises:
            UnavailableError: it cannot be reached.
        """
        try:
            with self._reader.connect() as connection:
                return connection.execute(query, parameters or {}).all()
        except DBAPIError as error:
            raise UnavailableError(f"the store cannot be read: {_said(error)}") from error

    def insert(self, table: str) -> sqlite.Insert | postgresql.Insert:
        """An INSERT of the database's own kind, which knows ``on_conflict_do_nothing`` and ``…_update``."""
        make = sqlite.insert if self.kind == "sqlite" else postgresql.insert
        return make(self.tables[table])

    def close(self) -> None:
        """Commit what waits, and close."""
        if not self._closing.is_set():
            self._closing.set()
            self._jobs.put(None)
        self._thread.join()
        self._let_go()

    def _let_go(self) -> None:
        for name in ("_writer", "_reader"):
            if (engine := getattr(self, name, None)) is not None:
                engine.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _run(self) -> None:
        last = False
        while not last:
            group: list[_Job] = []
            job = self._jobs.get()
            while job is not None and len(group) < _GROUP:
                group.append(job)
                try:
                    job = self._jobs.get_nowait()
                except Empty:
                    break
            else:
                last = job is None
                if job is not None:
                    group.append(job)
            if group:
                self._commit(group)

    def _commit(self, group: list[_Job]) -> None:
        try:
            with self._writer.begin() as connection:
                results = [action(connection) for action, _ in group]
        except (OperationalError, InterfaceError) as error:
            problem = UnavailableError(f"the store cannot be written: {_said(error)}")
            for _, future in group:
                future.set_exception(problem)
        except Exception as error:  # noqa: BLE001  an action's own: who asked for it hears of it
            if len(group) == 1:
                group[0][1].set_exception(error)
                return
            for job in group:
                self._commit([job])
        else:
            for (_, future), result in zip(group, results, strict=True):
                future.set_result(result)


def _parsed(url: str) -> tuple[URL, str]:
    """The URL with its driver, and as a message may show it."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    kind = parsed.get_backend_name() if parsed is not None else ""
    if parsed is None or kind not in _DRIVERS or not parsed.database:
        shown = "" if parsed is None else f" {parsed.render_as_string(hide_password=True)}"
        raise BadInputError(f"--store{shown}: give sqlite:///PATH or postgresql://USER@HOST/DATABASE")
    shown = parsed.render_as_string(hide_password=True)
    return parsed.set(drivername=f"{kind}+{_DRIVERS[kind]}"), f"--store {shown}"


def _hold(path: Path, where: str) -> int:
    """Hold a SQLite file for this process, by a lock file beside it."""
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadInputError(f"{where}: cannot be written ({error.strerror})") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise ScanwrightError(f"{where}: another monitor uses it; stop that one first") from error
    return lock


def _engine(url: URL, begin: str) -> Engine:
    if url.get_backend_name() == "postgresql":
        try:
            return create_engine(
                url,
                pool_pre_ping=True,
                connect_args={"connect_timeout": _CONNECT_S, "tcp_user_timeout": _UNUSABLE_MS},
            )
        except ImportError as error:
            raise ScanwrightError(
                "--store: PostgreSQL needs psycopg; install it by pip install 'scanwright[monitor]'"
            ) from error
    engine = create_engine(url, connect_args={"timeout": _BUSY_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by sqlite3
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _migrate(connection: Connection, where: str, create: bool) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATING})
    found = inspect(connection).get_table_names()
    if "finding" in found and "migration" not in found:
        raise ScanwrightError(
            f"{where}: holds tables of another program; give this monitor a store of its own"
        )
    if not create and "migration" not in found:
        raise BadInputError(f"{where}: {_NO_STORE}")
    connection.execute(text("CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY)"))
    done = connection.execute(text("SELECT coalesce(max(number), 0) FROM migration")).scalar_one()
    folder = files("edge.monitor.store") / "migrations"
    scripts = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    if done > len(scripts):
        raise ScanwrightError(f"{where}: written by a newer monitor (schema {done}); install that version")
    for number, script in enumerate(scripts[done:], start=done + 1):
        for statement in statements(script.read_text("utf-8"), connection.dialect.name):
            connection.exec_driver_sql(statement)
        connection.execute(text("INSERT INTO migration VALUES (:number)"), {"number": number})


def statements(script: str, kind: str) -> list[str]:
    """The statements of a migration, in the words of a kind of database."""
    lines = (line.partition("--")[0] for line in script.splitlines())
    return [part for part in "\n".join(lines).format(**_WORDS[kind]).split(";") if part.strip()]


def _named(connection: Connection) -> str:
    connection.execute(
        text("INSERT INTO receiver SELECT :name WHERE NOT EXISTS (SELECT 1 FROM receiver)"),
        {"name": uuid.uuid4().hex},
    )
    return str(connection.execute(text("SELECT name FROM receiver")).scalar_one())


def _said(error: SQLAlchemyError) -> str:
    """What the database said, in one line, without SQL or parameters."""
    said = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    with suppress(IndexError):
        return lines[0]
    return type(error).__name__
