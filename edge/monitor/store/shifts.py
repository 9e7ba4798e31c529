"""What of drift is stored: histograms by site and model, baselines, and what they come to now."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select

from edge.monitor import drift
from edge.monitor.store.database import Database

__all__ = ["DAYS", "Model", "Shift", "forget", "shifts", "take"]

DAYS = 7
"""Days that are held against the baseline, up to yesterday and today."""

Model = tuple[str, str, str]
"""Site, bundle and version."""


@dataclass(frozen=True)
class Shift:
    """A measure of a model at a site: its baseline and the last days. ``index`` and ``limit`` are None while
    either has too few findings."""

    model: Model
    measure: str
    baseline: tuple[int, ...]
    seen: tuple[int, ...]
    first_day: int
    last_day: int

    @property
    def index(self) -> float | None:
        """The population stability index."""
        if min(sum(self.baseline), sum(self.seen)) < drift.LEAST:
            return None
        return drift.psi(self.baseline, self.seen)

    @property
    def limit(self) -> float:
        """The index above which it is an alarm."""
        return drift.limit(self.baseline, self.seen)

    @property
    def alarm(self) -> bool:
        """Whether it has moved."""
        return drift.alarm(self.baseline, self.seen)


def take(connection: Connection, database: Database, today: int, now: float) -> int:
    """Take a baseline of each model at each site that has none yet, of its first whole days that have enough
    findings; how many were taken."""
    table, baseline = database.tables["histogram"], database.tables["baseline"]
    model = (table.c.site, table.c.bundle, table.c.version)
    has = select(baseline.c.site, baseline.c.bundle, baseline.c.version).distinct()
    known = {tuple(row) for row in connection.execute(has)}
    per_day = (
        select(*model, table.c.day, func.sum(table.c.n))
        .where(table.c.measure == "decision", table.c.day < today)
        .group_by(*model, table.c.day)
        .order_by(table.c.day)
    )
    days: dict[Model, list[tuple[int, int]]] = defaultdict(list)
    for site, bundle, version, day, n in connection.execute(per_day):
        days[site, bundle, version].append((day, int(n)))
    taken = 0
    for key, counted in days.items():
        if key in known:
            continue
        total = 0
        for day, n in counted:
            total += n
            if total >= drift.LEAST:
                _take(connection, database, key, counted[0][0], day, now)
                taken += 1
                break
    return taken


def _take(
    connection: Connection, database: Database, model: Model, first: int, last: int, now: float
) -> None:
    rows = [
        {
            "site": model[0],
            "bundle": model[1],
            "version": model[2],
            "measure": measure,
            "counts": json.dumps(counts),
            "first_day": first,
            "last_day": last,
            "taken_at": now,
            "taken_by": "monitor",
        }
        for measure, counts in _histograms(connection, database, model, first, last).items()
    ]
    connection.execute(database.insert("baseline").on_conflict_do_nothing(), rows)


def _histograms(
    connection: Connection, database: Database, model: Model, first: int, last: int
) -> dict[str, list[int]]:
    table = database.tables["histogram"]
    mine = (table.c.site == model[0]) & (table.c.bundle == model[1]) & (table.c.version == model[2])
    query = (
        select(table.c.measure, table.c.bin, func.sum(table.c.n))
        .where(mine, table.c.day >= first, table.c.day <= last)
        .group_by(table.c.measure, table.c.bin)
    )
    found: dict[str, list[int]] = defaultdict(lambda: [0] * drift.BINS)
    for measure, bin_, n in connection.execute(query):
        found[measure][bin_] = int(n)
    return found


def forget(connection: Connection, database: Database, model: Model, first_day: int) -> None:
    """Begin anew: baseline and histograms before ``first_day`` of a model at a site go, so that the next is
    taken of what comes."""
    for name in ("baseline", "histogram"):
        table = database.tables[name]
        mine = (table.c.site == model[0]) & (table.c.bundle == model[1]) & (table.c.version == model[2])
        if name == "histogram":
            mine &= table.c.day < first_day
        connection.execute(delete(table).where(mine))


def shifts(database: Database, today: int) -> list[Shift]:
    """Every measure that has a baseline, with what the last days came to; days of the baseline itself are
    not held against it."""
    table, baseline = database.tables["histogram"], database.tables["baseline"]
    query = select(
        table.c.site, table.c.bundle, table.c.version, table.c.measure, table.c.bin, table.c.day, table.c.n
    ).where(table.c.day > today - DAYS, table.c.day <= today)
    seen: dict[tuple[str, str, str, str], list[tuple[int, int, int]]] = defaultdict(list)
    for site, bundle, version, measure, bin_, day, n in database.read(query):
        seen[site, bundle, version, measure].append((bin_, day, n))
    found = []
    columns = (baseline.c.site, baseline.c.bundle, baseline.c.version, baseline.c.measure)
    for row in database.read(select(baseline).order_by(*columns)):
        counts = [0] * drift.BINS
        for bin_, day, n in seen[row.site, row.bundle, row.version, row.measure]:
            counts[bin_] += n if day > row.last_day else 0
        model = (row.site, row.bundle, row.version)
        expected = tuple(json.loads(row.counts))
        found.append(Shift(model, row.measure, expected, tuple(counts), row.first_day, row.last_day))
    return found
