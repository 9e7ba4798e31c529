"""The outbox: what is to be told, on the disk until the receiver has it."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from edge.agent.clock import corrected
from edge.agent.config import OutboxConfig
from edge.agent.database import Database
from edge.mqtt.topics import packet_bytes

__all__ = [
    "Kind",
    "Outbox",
    "OutboxMessage",
    "add",
    "drop_old",
    "drops_are_told",
    "set_aside",
    "untold_drops",
]

Kind = Literal["finding", "event", "overlay"]

# In the order they are told, with the most that is kept waiting. Findings are never dropped.
_PRIORITY: dict[Kind, int] = {"finding": 0, "event": 1, "overlay": 2}
_ALL = f"priority IN ({', '.join(map(str, _PRIORITY.values()))})"  # has the index used for what follows
_MOST: dict[Kind, int] = {"event": 1000, "overlay": 1000}


@dataclass(frozen=True)
class OutboxMessage:
    """One waiting message; ``seq`` grows with each that is put."""

    seq: int
    id: str
    kind: Kind
    topic: str
    payload: bytes


def add(
    connection: sqlite3.Connection,
    kind: Kind,
    id_: str,
    topic: str,
    payload: bytes,
    caps: OutboxConfig = OutboxConfig(),  # noqa: B008  immutable
) -> bool:
    """Put a message, within a transaction of :meth:`Database.write`; False if its id already waits.

    What exceeds the caps is dropped and counted: the oldest overlays, then the oldest events.
    """
    size = packet_bytes(topic, payload)
    added = connection.execute(
        "INSERT OR IGNORE INTO outbox (id, kind, priority, topic, payload, created, bytes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (id_, kind, _PRIORITY[kind], topic, payload, time.time(), size),
    ).rowcount
    if added and kind in _MOST:
        which = "FROM outbox WHERE priority = ?"
        (waiting,) = connection.execute(f"SELECT count(*) {which}", (_PRIORITY[kind],)).fetchone()
        if waiting > _MOST[kind]:
            oldest = (_PRIORITY[kind], waiting - _MOST[kind])
            _drop(connection, f"seq IN (SELECT seq {which} ORDER BY seq LIMIT ?)", oldest)
        most = caps.megabytes << 20
        (total,) = connection.execute("SELECT sum(bytes) FROM outbox WHERE priority > 0").fetchone()
        if total > most:
            _drop(
                connection,
                "seq IN (SELECT seq FROM (SELECT seq, sum(bytes) OVER (ORDER BY priority, seq DESC) AS upto"
                " FROM outbox WHERE priority > 0) WHERE upto > ?)",
                (most,),
            )
    return bool(added)


def drop_old(connection: sqlite3.Connection, caps: OutboxConfig) -> None:
    """Drop, within a transaction, events and overlays that are too old by a wall clock to be trusted."""
    _drop(connection, "priority > 0 AND created < ?", (time.time() - caps.days * 86400,))


def untold_drops(connection: sqlite3.Connection) -> dict[str, int]:
    """How many messages were dropped, by kind, that nobody was told of."""
    return dict(connection.execute("SELECT kind, n - told FROM dropped WHERE n > told").fetchall())


def drops_are_told(connection: sqlite3.Connection) -> None:
    """All drops so far are told, within the transaction that adds the event which tells them."""
    connection.execute("UPDATE dropped SET told = n")


def set_aside(connection: sqlite3.Connection, id_: str, largest: int) -> bool:
    """Keep a message but send it no more, within a transaction; False if it is not there.

    ``largest``: the packet that the broker takes at most, 0 if it does not say.
    """
    cursor = connection.execute("UPDATE outbox SET aside = ? WHERE id = ? AND aside IS NULL", (largest, id_))
    return bool(cursor.rowcount)


def _drop(connection: sqlite3.Connection, which: str, parameters: tuple[object, ...]) -> None:
    kinds = connection.execute(f"DELETE FROM outbox WHERE {which} RETURNING kind", parameters).fetchall()
    for (kind,), count in Counter(kinds).items():
        connection.execute(
            "INSERT INTO dropped (kind, n) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET n = n + ?2",
            (kind, count),
        )


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
            "SELECT seq, id, kind, topic, payload FROM outbox"
            " WHERE priority = ? AND seq > ? AND aside IS NULL"
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
        """How many messages wait, by kind; not those set aside."""
        return self._counted("aside IS NULL")

    def aside(self) -> dict[Kind, int]:
        """How many messages are set aside, by kind."""
        return self._counted("aside >= 0")

    def _counted(self, which: str) -> dict[Kind, int]:
        rows = self._database.read(
            f"SELECT priority, count(*) FROM outbox WHERE {_ALL} AND {which} GROUP BY priority"
        )
        counts = dict(rows)
        return {kind: counts.get(priority, 0) for kind, priority in _PRIORITY.items()}

    def dropped(self) -> int:
        """How many messages the caps have dropped, ever."""
        return int(self._database.read("SELECT coalesce(sum(n), 0) FROM dropped")[0][0])

    def bring_back(self, largest: int, everything: bool) -> Future[int]:
        """Have messages sent again that were set aside and fit a packet of ``largest`` bytes (0: any); with
        ``everything`` also those that a broker broke off at without naming a limit."""
        given = f"{_ALL} AND aside {'>=' if everything else '>'} 0"
        return self._database.write(
            lambda connection: (
                connection.execute(
                    f"UPDATE outbox SET aside = NULL WHERE {given} AND (?1 = 0 OR bytes <= ?1)", (largest,)
                ).rowcount
            )
        )

    def oldest_s(self) -> float | None:
        """Age in seconds, by the wall clock, of the message that has waited longest; None when none waits."""
        rows = self._database.read("SELECT created FROM outbox WHERE aside IS NULL ORDER BY seq LIMIT 1")
        return max(0.0, time.time() - rows[0][0]) if rows else None
