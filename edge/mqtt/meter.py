"""A cap on the bytes that a metered link carries in a day. The rules, and what the kernel counts."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any, Literal

__all__ = ["Meter", "carried"]

# Of the day's bytes, up to which share each kind may go. What is left after the findings keeps the
# connection, so that headquarters can still raise the cap.
_SHARE = {"overlay": 0.5, "update": 0.5, "health": 0.8, "event": 0.8, "finding": 0.9, "connection": 1.0}
_AHEAD = 100  # the count on the disk runs ahead by this part of the cap: a kill never makes it fall behind

_COUNTS = struct.Struct("=QQII")  # in struct tcp_info: bytes acked and received, segments out and in
_COUNTS_AT = 120
_FINDING_BYTES = 4096  # more than one takes
_SEGMENT_BYTES = 52  # headers of IPv4 and of TCP with time stamps

Kind = Literal["overlay", "update", "health", "event", "finding", "connection"]


class Meter:
    """Bytes of the present day against the cap; without a cap everything is allowed."""

    def __init__(
        self,
        cap: int | None,
        today: Callable[[], str],
        known: tuple[str, int] = ("", 0),
        keep: Callable[[str, int], None] = lambda _day, _bytes: None,
    ) -> None:
        """``known``: the day and count last kept; ``keep`` is called now and then with what to keep.

        Where the clock falls back to an earlier day, the count goes on.
        """
        self.cap = cap
        self._today, self._keep = today, keep
        self._day, self._used = known
        self._kept = self._used

    @property
    def used(self) -> int:
        """Bytes of today."""
        self._turn()
        return self._used

    @property
    def spent(self) -> bool:
        """Whether findings wait for tomorrow: one more might go over their share."""
        return not self.allows("finding", _FINDING_BYTES)

    def add(self, count: int) -> None:
        """So many bytes more went over the link, in either direction."""
        self._turn()
        self._used += count
        if self.cap is not None and self._used > self._kept:
            self._kept = self._used + self.cap // _AHEAD
            self._keep(self._day, self._kept)

    def allows(self, kind: Kind, more: int = 0) -> bool:
        """Whether something of this kind may still be sent today, ``more`` bytes included."""
        return self.cap is None or self.used + more < self.cap * _SHARE[kind]

    def _turn(self) -> None:
        today = self._today()
        if today > self._day:
            self._used = self._kept = 0
        self._day = today


def carried(sock: Any) -> int:
    """Bytes that a TCP connection has put on the link so far, headers of IPv4 and TCP included (tcp(7))."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        acked, received, out, in_ = _COUNTS.unpack_from(info, _COUNTS_AT)
    except (OSError, struct.error):  # it is closed, or the kernel is older than 4.2
        return 0
    return int(acked + received + _SEGMENT_BYTES * (out + in_))
