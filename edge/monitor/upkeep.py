"""What the monitor keeps up by itself: retention, and looking for drift."""

from __future__ import annotations

import logging

from edge.monitor.store import keeping, shifts
from edge.monitor.store.database import Database
from edge.monitor.store.intake import MonitorEvent, tell

__all__ = ["keep_up", "look_for_drift"]

log = logging.getLogger(__name__)

_DAY_S = 86400


def keep_up(database: Database, keep_days: float, now: float) -> None:
    """Tell of what has drifted, and let go what is older than it is kept.

    Raises:
        UnavailableError: the store cannot be used for now.
    """
    look_for_drift(database, now)
    gone = keeping.purge(database, keep_days, now)
    if gone:
        log.info("let go: %s", ", ".join(f"{n} of {name}" for name, n in gone.items()))


def look_for_drift(database: Database, now: float) -> None:
    """Take baselines that are due, and tell of each measure that has moved, once a day.

    Raises:
        UnavailableError: the store cannot be used for now.
    """
    today = int(now // _DAY_S)
    database.write(lambda connection: shifts.take(connection, database, today, now)).result()
    events = []
    for shift in shifts.shifts(database, today):
        if shift.alarm and shift.index is not None:
            site, bundle, version = shift.model
            said = (
                f"{bundle} {version}: '{shift.measure}' has moved from its baseline (PSI {shift.index:.2f}, "
                f"limit {shift.limit:.2f}); look at its images before trusting its results"
            )
            key = f"drift:{site}:{bundle}:{version}:{shift.measure}:{today}"
            data = {"bundle": bundle, "version": version, "measure": shift.measure}
            events.append(MonitorEvent("drift_alarm", said, site, "", "warning", key, data))
    if events:
        database.write(lambda connection: tell(connection, database, events, now)).result()
