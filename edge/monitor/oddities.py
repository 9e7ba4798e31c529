"""What is odd about the messages of a fleet, as events of the monitor: seldom, so that no flood fills it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from edge.monitor.hearing import Heard, RefusedError, off_s
from edge.monitor.store.intake import MonitorEvent
from edge.mqtt.payloads import Birth, Health

__all__ = ["CLOCK_OFF_S", "Oddities"]

CLOCK_OFF_S = 300.0
"""A trusted clock that is further from ours is wrong."""

_APART_S = 3600.0  # between two events of the same kind about the same cart
_REMEMBERED = 20_000  # carts, and kinds of events about them
_BOOTS = 5  # last boots of a cart that are remembered


class Oddities:
    """Remembers what was said last. ``counts`` of what was kept back go with the next event."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._told: OrderedDict[tuple[str, str, str], tuple[float, int]] = OrderedDict()
        self._boots: OrderedDict[tuple[str, str], list[str]] = OrderedDict()
        self.twice: set[tuple[str, str]] = set()

    def of_refusal(self, error: RefusedError) -> Iterator[MonitorEvent]:
        """A message was refused."""
        said = f"a message was refused: {error}"
        yield from self._seldom(MonitorEvent(error.code, said, error.site, error.device, "error"))

    def of_receipts(self, site: str, device: str, ids: Iterable[str]) -> Iterator[MonitorEvent]:
        """Somebody gave a cart receipts for findings that are not stored."""
        listed = list(ids)
        said = (
            f"somebody gave receipts for findings that are not here ({len(listed)}, the first {listed[0]}): "
            "look for them on the cart's screen, and at the broker's access list"
        )
        yield from self._seldom(MonitorEvent("receipt_forged", said, site, device, "error"))

    def of(self, heard: Heard) -> Iterator[MonitorEvent]:
        """What is odd about a message that was taken. ``twice`` holds the carts of which there are two."""
        if isinstance(heard.body, Health):
            off = off_s(heard.body.stamp, heard.received)
            if heard.body.stamp.clock_trusted and abs(off) > CLOCK_OFF_S:
                said = f"its clock is {_span(off)} and the cart trusts it; check its time source, and ours"
                yield from self._seldom(MonitorEvent("clock_wrong", said, heard.site, heard.device))
        if isinstance(heard.body, Birth) and self._returned(heard, heard.body.stamp.boot_id):
            said = (
                "two carts use this name in turn: a start that another had followed came back; "
                "give one of them a certificate and a name of its own"
            )
            self.twice.add((heard.site, heard.device))
            yield from self._seldom(MonitorEvent("identity_twice", said, heard.site, heard.device, "error"))

    def _returned(self, heard: Heard, boot: str) -> bool:
        """Whether a cart's boot is one that another boot had followed."""
        boots = self._boots.setdefault((heard.site, heard.device), [])
        self._boots.move_to_end((heard.site, heard.device))
        if len(self._boots) > _REMEMBERED:
            self._boots.popitem(last=False)
        if boots and boots[-1] == boot:
            return False
        returned = boot in boots
        boots[:] = [*(b for b in boots if b != boot), boot][-_BOOTS:]
        return returned

    def _seldom(self, event: MonitorEvent) -> Iterator[MonitorEvent]:
        key, now = (event.code, event.site, event.device), self._monotonic()
        at, kept_back = self._told.get(key, (float("-inf"), 0))
        if now - at < _APART_S:
            self._told[key] = (at, kept_back + 1)
            return
        self._told[key] = (now, 0)
        self._told.move_to_end(key)
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        more = f" ({kept_back} more since the last time)" if kept_back else ""
        yield MonitorEvent(event.code, event.message + more, event.site, event.device, event.severity)


def _span(seconds: float) -> str:
    word = "ahead" if seconds > 0 else "behind"
    size = abs(seconds)
    for unit, length in (("years", 31_557_600.0), ("days", 86_400.0), ("hours", 3600.0)):
        if size >= 2 * length:
            return f"{size / length:.0f} {unit} {word}"
    return f"{size / 60:.0f} minutes {word}"
