"""Retention: what is old is let go, a part at a time, and health is thinned from ten minutes to hours."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, Table, delete, select

from edge.monitor.store.database import Database

__all__ = ["purge"]

_FINE_S, _COARSE_S = 7 * 86400.0, 400 * 86400.0  # samples of ten minutes, and of hours, are kept so long
_HOUR = 3600
_OVERLAYS_S = 90 * 86400.0
_AT_ONCE = 2000  # rows of a table in one commit: receiving goes on meanwhile


def purge(database: Database, keep_days: float, now: float) -> Mapping[str, int]:
    """Let go of what is too old: findings, with their overlays, and events after ``keep_days``. Verdicts on
    findings and the audit trail stay. How many rows of each table went.

    Raises:
        UnavailableError: the store cannot be written for now.
    """
    tables, oldest = database.tables, now - keep_days * 86400
    sample = tables["health_sample"]
    rules: list[tuple[Table, ColumnElement[bool]]] = [
        (tables["finding"], tables["finding"].c.received < oldest),
        (tables["event"], tables["event"].c.received < oldest),
        (tables["overlay"], tables["overlay"].c.received < max(oldest, now - _OVERLAYS_S)),
        (tables["command"], tables["command"].c.ordered_at < oldest),
        (sample, (sample.c.at < int(now - _FINE_S)) & (sample.c.at % _HOUR != 0)),
        (sample, sample.c.at < int(now - _COARSE_S)),
    ]
    gone: dict[str, int] = {}
    for table, old in rules:
        while count := database.write(lambda c, t=table, o=old: _delete(c, t, o)).result():  # type: ignore[misc]
            gone[table.name] = gone.get(table.name, 0) + count
            if count < _AT_ONCE:
                break
    return gone


def _delete(connection: Connection, table: Table, old: ColumnElement[bool]) -> int:
    key = list(table.primary_key.columns)
    rows = connection.execute(select(*key).where(old).limit(_AT_ONCE)).all()
    for row in rows:
        mine = [column == value for column, value in zip(key, row, strict=True)]
        connection.execute(delete(table).where(*mine))
    return len(rows)
