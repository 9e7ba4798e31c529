"""The audit trail: who did what on this page, append-only, each entry chained to the one before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select, text

from edge.monitor.store.database import Database

__all__ = ["append", "broken_at", "entries"]

_FIRST = "0" * 64
_LOCK = 0xA0D17


def append(
    connection: Connection, database: Database, actor: str, kind: str, data: Mapping[str, Any], now: float
) -> None:
    """Append an entry, within a transaction of :meth:`Database.write`.

    Whoever can write the database can still rewrite it from some entry on; the hash of the last entry, noted
    elsewhere, shows that.
    """
    if database.kind == "postgresql":  # SQLite's writer is alone anyway
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _LOCK})
    table = database.tables["audit"]
    last = connection.execute(select(table.c.seq, table.c.hash).order_by(table.c.seq.desc()).limit(1)).first()
    seq, previous = (last[0] + 1, last[1]) if last else (1, _FIRST)
    said = json.dumps(dict(data), sort_keys=True, ensure_ascii=False)
    row = {"seq": seq, "at": now, "actor": actor, "kind": kind, "data": said, "previous": previous}
    connection.execute(table.insert(), row | {"hash": _hash(previous, seq, now, actor, kind, said)})


def entries(database: Database, n: int, before: int | None = None) -> Sequence[Any]:
    """The newest ``n`` entries, newest first; older than ``before`` where that is given."""
    table = database.tables["audit"]
    query = select(table).order_by(table.c.seq.desc()).limit(n)
    return database.read(query if before is None else query.where(table.c.seq < before))


def broken_at(database: Database) -> int | None:
    """The first entry that is missing or is not what was written; None if the chain holds."""
    expected, previous = 1, _FIRST
    for row in database.read(select(database.tables["audit"]).order_by(text("seq"))):
        entry = (row.seq, row.at, row.actor, row.kind, row.data)
        if row.seq != expected or row.previous != previous or row.hash != _hash(previous, *entry):
            return expected
        expected, previous = expected + 1, row.hash
    return None


def _hash(previous: str, *entry: object) -> str:
    return hashlib.sha256((previous + json.dumps(entry)).encode()).hexdigest()
