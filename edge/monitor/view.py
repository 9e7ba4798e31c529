"""The fleet as the page shows it: kept in memory, brought up to date by what changed, sorted by urgency."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge.monitor.attention import Level, Reason, newest_versions, reasons, urgency
from edge.monitor.store import fleet
from edge.monitor.store.database import Database, UnavailableError

__all__ = ["Cart", "FleetView"]

log = logging.getLogger(__name__)

_LOOK_S = 0.7  # how soon a change is seen
_AGAIN_S = 20.0  # how often carts are judged anew that nothing was heard of
_OVERLAP_S = 10.0  # another worker's commit may become visible so late


@dataclass(frozen=True)
class Cart:
    """A row of the table device with what is not as it should be."""

    row: Any
    reasons: Sequence[Reason]

    @property
    def level(self) -> Level | None:
        """Of the most urgent reason; None where all is well."""
        return self.reasons[0].level if self.reasons else None


class FleetView:
    """Brought up to date by a thread of its own; ``state`` changes whenever a page may be out of date."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: dict[tuple[str, str], Any] = {}
        self._changed = 0.0
        self._judged_at = 0.0
        self._revision = 0
        self.carts: Sequence[Cart] = ()
        self.state: dict[str, Any] = {}
        self.problem: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)

    def start(self) -> None:
        """Read all there is, and begin to follow it."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Bring it up to date now."""
        try:
            changed = fleet.changed_devices(self._database, self._changed - _OVERLAP_S)
            findings, events = fleet.sequence(self._database)
        except UnavailableError as error:
            if self.problem is None:
                log.warning("the page shows what was known: %s", error)
            self.problem = str(error)
        else:
            self.problem = None
            self._take(changed)
            self.state = {"fleet": self._revision, "findings": findings, "events": events}
        self.state = {**self.state, "trouble": self.problem is not None}

    def _take(self, changed: Sequence[Any]) -> None:
        new = [row for row in changed if self._rows.get((row.site, row.device)) != row]
        if not new and time.monotonic() - self._judged_at < _AGAIN_S:
            return
        for row in new:
            self._rows[row.site, row.device] = row
            self._changed = max(self._changed, row.changed)
        self._judged_at = time.monotonic()
        now = time.time()
        newest = newest_versions({row.bundles for row in self._rows.values()})
        carts = [
            Cart(row, reasons(row, now, newest)) for row in self._rows.values() if row.retired_at is None
        ]
        carts.sort(key=lambda cart: (*urgency(list(cart.reasons)), cart.row.site, cart.row.device))
        self.carts = carts
        self._revision += 1

    def sites(self) -> dict[str, Counter[Level | None]]:
        """How many carts of each site are at each level, by name."""
        counted: dict[str, Counter[Level | None]] = {}
        for cart in self.carts:
            counted.setdefault(cart.row.site, Counter())[cart.level] += 1
        return dict(sorted(counted.items()))

    def cart(self, site: str, device: str) -> Cart | None:
        """One cart."""
        return next((c for c in self.carts if c.row.site == site and c.row.device == device), None)

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_S):
            self.look()
