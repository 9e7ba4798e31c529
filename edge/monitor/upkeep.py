"""What the monitor does by itself, beside receiving: retention, and looking for drift."""

from __future__ import annotations

import logging
import threading
import time

from edge.monitor.store import keeping, shifts
from edge.monitor.store.database import Database, UnavailableError
from edge.monitor.store.intake import MonitorEvent, tell

__all__ = ["Upkeep", "look_for_drift"]

log = logging.getLogger(__name__)

_FIRST_S, _EVERY_S = 10.0, 600.0
_DAY_S = 86400


class Upkeep:
    """A thread that does it every ten minutes. Several workers may each have one."""

    def __init__(self, database: Database, keep_days: float) -> None:
        self._database, self._keep_days = database, keep_days
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End what is being done, and the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        wait = _FIRST_S
        while not self._stop.wait(wait):
            wait = _EVERY_S
            try:
                look_for_drift(self._database, time.time())
                gone = keeping.purge(self._database, self._keep_days, time.time())
            except UnavailableError as error:
                log.warning("upkeep waits: %s", error)
                continue
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
