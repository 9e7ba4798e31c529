"""The audit log: what was done on this device, append-only, each entry chained to the one before it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from edge.agent.clock import Clock, corrected
from edge.agent.commands import Scalar
from edge.agent.database import Database
from edge.mqtt.payloads import Stamp

__all__ = ["Audit", "AuditEntry"]

_FIRST = bytes(32)


@dataclass(frozen=True)
class AuditEntry:
    """One entry; ``stamp`` is a Stamp as JSON, ``hash`` covers the entry and all before it."""

    seq: int
    stamp: dict[str, Any]
    kind: str
    data: dict[str, Scalar]
    hash: str


class Audit:
    """The audit log in a :class:`Database`, whose triggers refuse to change or delete an entry.

    Whoever can write the file can still rewrite it from some entry on; the hash of the last entry, noted
    elsewhere, shows that. It holds no identity.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    def add(self, kind: str, data: Mapping[str, Scalar]) -> Future[None]:
        """Append an entry of now; the future resolves once it is on the disk."""
        stamp = self._clock.stamp()
        return self._database.write(lambda connection: _append(connection, stamp, kind, data))

    def append(self, connection: sqlite3.Connection, kind: str, data: Mapping[str, Scalar]) -> None:
        """Append an entry of now, within a transaction of :meth:`Database.write`."""
        _append(connection, self._clock.stamp(), kind, data)

    def entries(self) -> list[AuditEntry]:
        """All entries, oldest first; a time that became known later is in ``stamp.corrected_at``."""
        return [
            AuditEntry(seq, self._stamp(stamp), kind, json.loads(data), hash_.hex())
            for seq, stamp, kind, data, hash_ in self._database.read(
                "SELECT seq, stamp, kind, data, hash FROM audit ORDER BY seq"
            )
        ]

    def _stamp(self, text: str) -> dict[str, Any]:
        record: dict[str, dict[str, Any]] = json.loads(
            corrected(self._database, b'{"stamp":%b}' % text.encode())
        )
        return record["stamp"]

    def broken_at(self) -> int | None:
        """The first entry that is missing or is not what was written; None if the chain holds."""
        expected, previous = 1, _FIRST
        for seq, stamp, kind, data, before, hash_ in self._database.read(
            "SELECT seq, stamp, kind, data, previous, hash FROM audit ORDER BY seq"
        ):
            if seq != expected or before != previous or hash_ != _hash(previous, seq, stamp, kind, data):
                return expected
            expected, previous = expected + 1, hash_
        return None


def _append(connection: sqlite3.Connection, stamp: Stamp, kind: str, data: Mapping[str, Scalar]) -> None:
    when, said = stamp.model_dump_json(exclude_none=True), json.dumps(data, sort_keys=True)
    last = connection.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    seq, previous = (last[0] + 1, last[1]) if last else (1, _FIRST)
    connection.execute(
        "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?)",
        (seq, when, kind, said, previous, _hash(previous, seq, when, kind, said)),
    )


def _hash(previous: bytes, *entry: object) -> bytes:
    return hashlib.sha256(previous + json.dumps(entry).encode()).digest()
