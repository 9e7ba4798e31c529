"""Verdicts of reviewers: kept for good, told to the cart, and counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, update

from edge.monitor.store import commands
from edge.monitor.store.database import Database

__all__ = ["Judged", "add", "judged", "latest", "left", "order_untold", "unreviewed", "untold", "work"]

_AGAIN_S = 600.0  # a verdict that the cart did not answer is told again


@dataclass(frozen=True)
class Judged:
    """How many findings of one site, model and decision have a verdict, and with what truth.

    ``labels``: what is truly there, None where the reviewer cannot tell; ``said`` the label of the finding.
    """

    site: str
    bundle: str
    version: str
    decision: str
    said: str | None
    labels: tuple[str, ...] | None
    n: int


def add(
    connection: Connection,
    database: Database,
    finding: Any,
    labels: Sequence[str] | None,
    reviewer: str,
    now: float,
) -> None:
    """Keep a verdict on a finding (a row of its table); it takes the place of an earlier one."""
    said = {finding.label} if finding.decision == "positive" else set()
    agrees = None if labels is None or finding.decision == "no_result" else set(labels) == said
    row = {
        "site": finding.site,
        "device": finding.device,
        "finding": finding.id,
        "reviewer": reviewer,
        "at": now,
        "labels": None if labels is None else json.dumps(sorted(labels)),
        "agrees": agrees,
        "told": False,
    }
    verdict, table = database.tables["verdict"], database.tables["finding"]
    earlier = (verdict.c.site == finding.site) & (verdict.c.device == finding.device)
    earlier &= verdict.c.finding == finding.id
    connection.execute(update(verdict).where(earlier & ~verdict.c.told).values(told=True, problem="replaced"))
    connection.execute(database.insert("verdict"), [row])
    connection.execute(update(table).where(table.c.seq == finding.seq).values(reviewed=True))


def latest(database: Database, site: str, device: str, finding: str) -> Any | None:
    """The verdict that counts for a finding, or None."""
    table = database.tables["verdict"]
    mine = (table.c.site == site) & (table.c.device == device) & (table.c.finding == finding)
    rows = database.read(select(table).where(mine).order_by(table.c.seq.desc()).limit(1))
    return rows[0] if rows else None


def work(database: Database, n: int, site: str | None = None) -> Sequence[Any]:
    """The next ``n`` findings to review: positives and uncertain ones first, of equals the oldest."""
    table = database.tables["finding"]
    waits = ~table.c.reviewed & ~table.c.test
    if site:
        waits &= table.c.site == site
    return database.read(select(table).where(waits).order_by(table.c.priority, table.c.at).limit(n))


def left(database: Database, most: int, site: str | None = None) -> int:
    """How many findings wait for a review; counted up to ``most``."""
    table = database.tables["finding"]
    waits = ~table.c.reviewed & ~table.c.test
    if site:
        waits &= table.c.site == site
    some = select(table.c.seq).where(waits).limit(most).subquery()
    return int(database.read(select(func.count()).select_from(some))[0][0])


def judged(database: Database, since: float, until: float) -> list[Judged]:
    """Counts of the findings of a time that have a verdict."""
    verdict, finding = database.tables["verdict"], database.tables["finding"]
    newest = select(func.max(verdict.c.seq)).group_by(verdict.c.site, verdict.c.device, verdict.c.finding)
    same = and_(
        finding.c.site == verdict.c.site,
        finding.c.device == verdict.c.device,
        finding.c.id == verdict.c.finding,
    )
    what = (
        finding.c.site,
        finding.c.bundle,
        finding.c.version,
        finding.c.decision,
        finding.c.label,
        verdict.c.labels,
    )
    query = (
        select(*what, func.count())
        .join_from(verdict, finding, same)
        .where(verdict.c.seq.in_(newest), finding.c.at >= since, finding.c.at < until, ~finding.c.test)
        .group_by(*what)
    )
    return [
        Judged(
            site, bundle, version, decision, said, None if labels is None else tuple(json.loads(labels)), n
        )
        for site, bundle, version, decision, said, labels, n in database.read(query)
    ]


def unreviewed(database: Database, since: float, until: float) -> dict[tuple[str, str, str, str], int]:
    """How many findings of a time have no verdict, by site, bundle, version and decision."""
    table = database.tables["finding"]
    what = (table.c.site, table.c.bundle, table.c.version, table.c.decision)
    waits = ~table.c.reviewed & ~table.c.test & (table.c.at >= since) & (table.c.at < until)
    query = select(*what, func.count()).where(waits).group_by(*what)
    return {(row[0], row[1], row[2], row[3]): row[4] for row in database.read(query)}


def untold(database: Database) -> bool:
    """Whether there are verdicts that a cart has not answered."""
    table = database.tables["verdict"]
    return bool(database.read(select(table.c.seq).where(~table.c.told).limit(1)))


def order_untold(connection: Connection, database: Database, now: float) -> None:
    """Have carts that are there told the verdicts they do not know."""
    verdict, device = database.tables["verdict"], database.tables["device"]
    command = database.tables["command"]
    there = and_(device.c.site == verdict.c.site, device.c.device == verdict.c.device, device.c.online)
    due = or_(verdict.c.command.is_(None), command.c.sent_at < now - _AGAIN_S)
    query = (
        select(verdict)
        .join_from(verdict, device, there)
        .outerjoin(command, command.c.id == verdict.c.command)
        .where(~verdict.c.told, due)
        .order_by(verdict.c.seq)
        .limit(200)
    )
    for row in connection.execute(query).all():
        labels = None if row.labels is None else ", ".join(json.loads(row.labels))
        arguments: dict[str, commands.Scalar] = {
            "finding": row.finding,
            "labels": labels,
            "agrees": row.agrees,
            "reviewed_at": datetime.fromtimestamp(row.at, timezone.utc).isoformat(timespec="seconds"),
        }
        id_ = commands.order(
            connection, database, row.site, row.device, "verdict", arguments, row.reviewer, now
        )
        connection.execute(update(verdict).where(verdict.c.seq == row.seq).values(command=id_))
