"""The store: the last findings with their pictures for the cart's screen, and marks of all that was seen."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass
from typing import Any

from edge.agent.audit import Audit
from edge.agent.clock import corrected
from edge.agent.database import Database
from edge.agent.outbox import Outbox
from edge.agent.verdicts import Verdict

__all__ = ["Store", "StoredFinding", "add", "mark"]

# Bounds of the disk it may take: pictures of so many findings, text of so many.
PICTURES = 300
FINDINGS = 100_000


@dataclass(frozen=True)
class StoredFinding:
    """A finding as it is told (``edge.mqtt.payloads.Finding`` as JSON), with what the screen shows beside it.

    ``image`` and ``overlay`` are PNG files: the frame, and the frame under its heat map. Only the newest 300
    findings have them. ``delivered`` is False while the finding waits in the outbox. ``verdict`` is what a
    reviewer said of it, if anything.
    """

    seq: int
    id: str
    finding: dict[str, Any]
    delivered: bool
    image: bytes | None = None
    overlay: bytes | None = None
    verdict: Verdict | None = None


def mark(connection: sqlite3.Connection, key: str) -> bool:
    """Mark a key as seen, within a transaction; False if it was already."""
    return connection.execute("INSERT OR IGNORE INTO seen (mark) VALUES (?)", (key,)).rowcount == 1


def add(
    connection: sqlite3.Connection,
    id_: str,
    payload: str,
    image: bytes | None,
    overlay: bytes | None,
    heat: bytes | None = None,
) -> None:
    """Store a finding, within a transaction of :meth:`Database.write`; one that is there stays as it is."""
    cursor = connection.execute(
        "INSERT OR IGNORE INTO finding (id, created, payload) VALUES (?, ?, ?)", (id_, time.time(), payload)
    )
    if not cursor.rowcount:
        return
    seq = cursor.lastrowid or 0
    if image or overlay:
        connection.execute(
            "INSERT INTO picture (seq, image, overlay, heat) VALUES (?, ?, ?, ?)", (seq, image, overlay, heat)
        )
    connection.execute("DELETE FROM picture WHERE seq <= ?", (seq - PICTURES,))
    connection.execute("DELETE FROM finding WHERE seq <= ?", (seq - FINDINGS,))


class Store:
    """The stored findings of a :class:`Database`; safe to read from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sequence(self) -> int:
        """A number that grows with each stored finding and verdict, 0 before the first."""
        query = "SELECT coalesce(sum(seq), 0) FROM sqlite_sequence WHERE name IN ('finding', 'verdict')"
        return int(self._database.read(query)[0][0])

    def latest(self, n: int, pictures: bool = True) -> list[StoredFinding]:
        """The newest ``n`` findings, newest first; without ``pictures`` they are left None."""
        return self._select("ORDER BY finding.seq DESC LIMIT ?", n, pictures=pictures)

    def get(self, id_: str) -> StoredFinding | None:
        """The finding of an id, or None."""
        return next(iter(self._select("WHERE finding.id = ?", id_)), None)

    def waiting(self) -> int:
        """How many findings wait to be delivered."""
        return Outbox(self._database).counts()["finding"]

    def seen(self, key: str) -> bool:
        """Whether a key was marked as seen."""
        return bool(self._database.read("SELECT 1 FROM seen WHERE mark = ?", (key,)))

    def purge(self, keep_days: float, audit: Audit) -> None:
        """Delete delivered findings that are older than ``keep_days`` by the wall clock, and say how many."""
        oldest = time.time() - keep_days * 86400

        def delete(connection: sqlite3.Connection) -> None:
            deleted = connection.execute(
                "DELETE FROM finding WHERE created < ? AND id NOT IN (SELECT id FROM outbox)", (oldest,)
            ).rowcount
            if deleted:
                connection.execute("DELETE FROM picture WHERE seq NOT IN (SELECT seq FROM finding)")
                connection.execute("DELETE FROM verdict WHERE finding NOT IN (SELECT id FROM finding)")
                audit.append(connection, "purge", {"findings": deleted, "keep_days": keep_days})
            connection.execute("DELETE FROM study WHERE open = 0 AND heard < ?", (oldest,))

        self._database.write(delete)

    def _select(self, which: str, parameter: object, pictures: bool = True) -> list[StoredFinding]:
        shown = "image, overlay" if pictures else "NULL, NULL"
        rows = self._database.read(
            f"SELECT finding.seq, finding.id, finding.payload, outbox.id IS NULL, {shown},"
            " verdict.seq IS NOT NULL, verdict.labels, verdict.agrees FROM finding"
            " LEFT JOIN picture ON picture.seq = finding.seq LEFT JOIN outbox ON outbox.id = finding.id"
            " LEFT JOIN verdict ON verdict.finding = finding.id " + which,
            (parameter,),
        )
        return [
            StoredFinding(
                seq,
                id_,
                json.loads(corrected(self._database, payload.encode())),
                bool(delivered),
                image,
                overlay,
                Verdict(labels, None if agrees is None else bool(agrees)) if judged else None,
            )
            for seq, id_, payload, delivered, image, overlay, judged, labels, agrees in rows
        ]
