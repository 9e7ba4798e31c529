"""The fleet as the page shows it: kept in memory, brought up to date by what changed, sorted by urgency."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
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
    """A row of the table device with what is not as it should be, and its place among the others."""

    row: Any
    reasons: Sequence[Reason]
    place: tuple[Any, ...]

    @property
    def level(self) -> Level | None:
        """Of the most urgent reason; None where all is well."""
        return self.reasons[0].level if self.reasons else None


class FleetView:
    """Brought up to date by a thread of its own; ``state`` changes whenever a page may be out of date.

    ``carts`` are those that are not retired, the most urgent first; ``sites`` says how many carts of each are
    at each level; ``problem`` why the store cannot be read, if so.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._carts: dict[tuple[str, str], Cart] = {}
        self._newest: dict[str, tuple[int, ...]] = {}
        self._changed = 0.0
        self._judged_at = 0.0
        self._revision = 0
        self.carts: Sequence[Cart] = ()
        self.sites: Mapping[str, Counter[Level | None]] = {}
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
        known = self._carts
        new = {
            key: row
            for row in changed
            if (key := (row.site, row.device)) not in known or known[key].row != row
        }
        due = time.monotonic() - self._judged_at >= _AGAIN_S
        if not new and not due:
            return
        rows = {key: cart.row for key, cart in known.items()} | new
        newest = newest_versions({row.bundles for row in rows.values()})
        # What rests on the time, or on the other carts, changes without a word of the cart itself.
        if due or newest != self._newest:
            new, self._judged_at = rows, time.monotonic()
        self._newest = newest
        self._changed = max((self._changed, *(row.changed for row in new.values())))
        now = time.time()
        self._carts = known | {key: _judged(row, now, newest) for key, row in new.items()}
        self.carts = sorted(
            (cart for cart in self._carts.values() if cart.row.retired_at is None),
            key=lambda cart: cart.place,
        )
        sites: dict[str, Counter[Level | None]] = {}
        for cart in self.carts:
            sites.setdefault(cart.row.site, Counter())[cart.level] += 1
        self.sites = dict(sorted(sites.items()))
        self._revision += 1

    def cart(self, site: str, device: str) -> Cart | None:
        """One cart."""
        return self._carts.get((site, device))

    def _run(self) -> None:
        wait = _LOOK_S
        while not self._stop.wait(wait):
            begun = time.monotonic()
            self.look()
            # Of a large fleet that has much to say this is work: the pages come first.
            wait = max(_LOOK_S, 2 * (time.monotonic() - begun))


def _judged(row: Any, now: float, newest: Mapping[str, tuple[int, ...]]) -> Cart:
    found = reasons(row, now, newest)
    return Cart(row, found, (*urgency(found), row.site, row.device))
