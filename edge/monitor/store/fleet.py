"""What the pages ask of carts: their rows, samples of their health, events and findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, true

from edge.monitor.store.database import Database

__all__ = [
    "Filter",
    "changed_devices",
    "count_findings",
    "device",
    "events",
    "finding",
    "findings",
    "overlay",
    "samples",
    "sequence",
    "sites",
]


@dataclass(frozen=True)
class Filter:
    """Which findings: each part narrows them; ``since`` and ``until`` are of the cart's time, in seconds."""

    site: str | None = None
    device: str | None = None
    bundle: str | None = None
    decision: str | None = None
    label: str | None = None
    case_code: str | None = None
    reviewed: bool | None = None
    since: float | None = None
    until: float | None = None
    test: bool = False


def changed_devices(database: Database, since: float) -> Sequence[Any]:
    """Rows of the carts that changed at ``since`` or later."""
    table = database.tables["device"]
    columns = [column for column in table.c if column.name not in ("birth", "health")]
    return database.read(select(*columns).where(table.c.changed >= since))


def device(database: Database, site: str, name: str) -> Any | None:
    """The row of a cart, or None."""
    table = database.tables["device"]
    rows = database.read(select(table).where(table.c.site == site, table.c.device == name))
    return rows[0] if rows else None


def sites(database: Database) -> list[str]:
    """Names of all sites."""
    table = database.tables["device"]
    return [row[0] for row in database.read(select(table.c.site).distinct().order_by(table.c.site))]


def samples(database: Database, site: str, name: str, since: float) -> Sequence[Any]:
    """Samples of a cart's health, the oldest first."""
    table = database.tables["health_sample"]
    mine = (table.c.site == site) & (table.c.device == name) & (table.c.at >= int(since))
    return database.read(select(table).where(mine).order_by(table.c.at))


def events(
    database: Database, n: int, site: str | None = None, device: str | None = None, origin: str | None = None
) -> Sequence[Any]:
    """The newest ``n`` events."""
    table = database.tables["event"]
    query = select(table).order_by(table.c.at.desc(), table.c.seq.desc()).limit(n)
    for column, value in ((table.c.site, site), (table.c.device, device), (table.c.origin, origin)):
        if value is not None:
            query = query.where(column == value)
    return database.read(query)


def findings(
    database: Database, wanted: Filter, n: int, before: tuple[float, int] | None = None
) -> Sequence[Any]:
    """The newest ``n`` findings of a filter; ``before``: older than one of that time and ``seq``."""
    table = database.tables["finding"]
    query = select(table).where(_where(database, wanted))
    if before is not None:
        at, seq = before
        query = query.where((table.c.at < at) | ((table.c.at == at) & (table.c.seq < seq)))
    return database.read(query.order_by(table.c.at.desc(), table.c.seq.desc()).limit(n))


def count_findings(database: Database, wanted: Filter) -> Mapping[str, int]:
    """How many findings of a filter there are, by decision."""
    table = database.tables["finding"]
    query = select(table.c.decision, func.count()).where(_where(database, wanted)).group_by(table.c.decision)
    return {row[0]: row[1] for row in database.read(query)}


def finding(database: Database, site: str, device: str, id_: str) -> Any | None:
    """The row of a finding, or None."""
    table = database.tables["finding"]
    mine = (table.c.site == site) & (table.c.device == device) & (table.c.id == id_)
    rows = database.read(select(table).where(mine))
    return rows[0] if rows else None


def overlay(database: Database, site: str, device: str, id_: str) -> bytes | None:
    """The overlay of a finding, or None."""
    table = database.tables["overlay"]
    mine = (table.c.site == site) & (table.c.device == device) & (table.c.finding == id_)
    rows = database.read(select(table.c.png).where(mine))
    return bytes(rows[0][0]) if rows else None


def sequence(database: Database) -> tuple[int, int]:
    """Numbers that grow with each finding and each event."""
    newest = (func.coalesce(func.max(database.tables[name].c.seq), 0) for name in ("finding", "event"))
    found, told = (database.read(select(one))[0][0] for one in newest)
    return found, told


def _where(database: Database, wanted: Filter) -> ColumnElement[bool]:
    table = database.tables["finding"]
    parts: list[ColumnElement[bool]] = [true()] if wanted.test else [~table.c.test]
    for name in ("site", "device", "bundle", "decision", "label", "case_code", "reviewed"):
        if (value := getattr(wanted, name)) is not None:
            parts.append(table.c[name] == value)
    if wanted.since is not None:
        parts.append(table.c.at >= wanted.since)
    if wanted.until is not None:
        parts.append(table.c.at < wanted.until)
    return and_(*parts)
