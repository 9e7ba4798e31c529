"""What the service tells systemd: that it is ready, that it lives, that it stops (sd_notify(3))."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["Notifier"]

_FEEDS = 4  # in one watchdog time, so that a late one does no harm


class Notifier:
    """Messages on the datagram socket that ``NOTIFY_SOCKET`` names; without one all is silent.

    The watchdog is fed by whoever does the work, between two pieces of it: a service that hangs stops feeding
    and systemd starts another.

    Args:
        environ: where systemd leaves ``NOTIFY_SOCKET`` (a path, or an abstract name after ``@``),
            ``WATCHDOG_USEC`` and ``WATCHDOG_PID``.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        watched = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog_us = int(environ.get("WATCHDOG_USEC", "0")) if watched else 0
        self._every_s = watchdog_us / 1e6 / _FEEDS
        self._next = 0.0

    @property
    def patience_s(self) -> float:
        """How long a piece of work may take before the service counts as hung; infinite without watchdog."""
        return self._every_s * _FEEDS if self._every_s else float("inf")

    def ready(self) -> None:
        """The service is up."""
        self._say("READY=1")

    def feed(self) -> None:
        """The service lives; says so a few times in the watchdog's time, however often it is called."""
        if self._every_s and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every_s
            self._say("WATCHDOG=1")

    def reloading(self) -> None:
        """The configuration is read again; ``ready`` follows."""
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service ends."""
        self._say("STOPPING=1")

    def _say(self, message: str) -> None:
        if self._address:
            # Whether systemd hears it is not for the work to fail on; it restarts what it does not hear.
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(1.0)
                sock.sendto(message.encode(), self._address)
