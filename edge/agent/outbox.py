"""The outbox: what is to be told, on the disk until the receiver has it."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from edge.agent.clock import corrected
from edge.agent.database import Database

__all__ = ["Kind", "Outbox", "OutboxMessage", "add"]

log = logging.getLogger(__name__)

Kind = Literal["finding", "event", "overlay"]

# In the order they are told, with the most that is kept waiting. Findings are never dropped.
_PRIORITY: dict[Kind, int] = {"finding": 0, "event": 1, "overlay": 2}
_MOST: dict[Kind, int] = {"event": 1000, "overlay": 1000}


@dataclass(frozen=True)
class OutboxMessage:
    """One waiting message; ``seq`` grows with each that is put."""

    seq: int
    id: str
    kind: Kind
    topic: str
    payload: bytes


def add(connection: sqlite3.Connection, kind: Kind, id_: str, topic: str, payload: bytes) -> bool:
    """Put a message, within a transaction of :meth:`Database.write`; False if its id already waits."""
    added = connection.execute(
        "INSERT OR IGNORE INTO outbox (id, kind, priority, topic, payload, created)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (id_, kind, _PRIORITY[kind], topic, payload, time.time()),
    ).rowcount
    if added and kind in _MOST:
        dropped = connection.execute(
            "DELETE FROM outbox WHERE priority = ?1 AND seq <="
            " (SELECT seq FROM outbox WHERE priority = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
            (_PRIORITY[kind], _MOST[kind]),
        ).rowcount
        if dropped:
            log.warning("too many %ss wait, the oldest was dropped", kind)
    return bool(added)


class Outbox:
    """The waiting messages of a :class:`Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, kind: Kind, id_: str, topic: str, payload: bytes) -> Future[bool]:
        """Put a message durably; the future is False if its id already waits."""
        return self._database.write(lambda connection: add(connection, kind, id_, topic, payload))

    def next(self, n: int, kind: Kind, after: int = 0) -> list[OutboxMessage]:
        """The first ``n`` waiting messages of a kind whose ``seq`` is above ``after``, times corrected."""
        rows = self._database.read(
            "SELECT seq, id, kind, topic, payload FROM outbox WHERE priority = ? AND seq > ?"
            " ORDER BY seq LIMIT ?",
            (_PRIORITY[kind], after, n),
        )
        return [
            OutboxMessage(seq, id_, kind, topic, corrected(self._database, payload))
            for seq, id_, kind, topic, payload in rows
        ]

    def done(self, ids: Iterable[str]) -> Future[int]:
        """Let messages go: the receiver has them. Unknown ids are ignored; the future counts the known."""
        rows = [(id_,) for id_ in ids]

        def delete(connection: sqlite3.Connection) -> int:
            return connection.executemany("DELETE FROM outbox WHERE id = ?", rows).rowcount

        return self._database.write(delete)

    def last(self) -> int:
        """The greatest ``seq`` ever put; 0 before the first."""
        rows = self._database.read("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
        return int(rows[0][0]) if rows else 0

    def counts(self) -> dict[Kind, int]:
        """How many messages wait, by kind."""
        rows = self._database.read("SELECT kind, count(*) FROM outbox GROUP BY kind")
        return dict.fromkeys(_PRIORITY, 0) | dict(rows)

    def oldest_s(self) -> float | None:
        """Age in seconds, by the wall clock, of the message that has waited longest; None when none waits."""
        rows = self._database.read("SELECT created FROM outbox ORDER BY seq LIMIT 1")
        return max(0.0, time.time() - rows[0][0]) if rows else None
