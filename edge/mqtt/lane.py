"""A lane: how far the messages of one kind are sent on a connection, and when they are sent again. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.mqtt.waiting import Kind, Message

__all__ = ["Lane"]

_REFUSED_S = (1.0, 60.0)  # first and longest wait after a message was not taken
_RECEIPT_S = (60.0, 3600.0)  # first and longest wait for a receipt
_UNRECEIPTED = 1000  # most messages that wait for their receipt at once


class Lane:
    """One kind's place on a connection. Times are of the monotonic clock, in seconds.

    ``cursor`` is the ``seq`` of the last message sent; ``held`` says that nothing is to be sent for now,
    because one was not taken.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind
        self.cursor = 0
        self._awaited: set[str] = set()
        self._again_at: float | None = None
        self.held = False
        self._refused_s, self._receipt_s = _REFUSED_S[0], _RECEIPT_S[0]

    def room(self, most: int) -> int:
        """How many more messages may be sent now, at most ``most``."""
        return max(0, min(most, _UNRECEIPTED - len(self._awaited)))

    def sent(self, message: Message) -> None:
        """A message was sent, or passed over."""
        self.cursor = message.seq

    def refused(self, now: float) -> bool:
        """A message was not taken: hold the lane, then send again. False if it is held already."""
        if self.held:
            return False
        self.held = True
        self._again_at = now + self._refused_s
        self._refused_s = min(self._refused_s * 2, _REFUSED_S[1])
        return True

    def awaits(self, message: Message, now: float) -> None:
        """The broker has a message, its receipt is to come."""
        self._awaited.add(message.id)
        self._refused_s = _REFUSED_S[0]
        if self._again_at is None:
            self._again_at = now + self._receipt_s

    def taken(self, ids: Iterable[str], now: float) -> None:
        """The receiver has messages."""
        self._awaited.difference_update(ids)
        self._refused_s, self._receipt_s = _REFUSED_S[0], _RECEIPT_S[0]
        if not self.held:
            self._again_at = now + self._receipt_s if self._awaited else None

    def again(self, now: float) -> bool:
        """Whether it is time to send again from the first that waits."""
        return self._again_at is not None and now >= self._again_at

    def rewind(self) -> None:
        """Start again from the first message that waits."""
        if not self.held:
            self._receipt_s = min(self._receipt_s * 2, _RECEIPT_S[1])
        self.cursor = 0
        self._awaited.clear()
        self._again_at = None
        self.held = False
