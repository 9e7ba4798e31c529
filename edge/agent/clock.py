"""The clock: what time it is, and whether the wall clock can be believed."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

from edge.mqtt.payloads import Stamp

__all__ = ["Clock", "kernel_is_synchronized"]

# No agent of this version was built before: a clock that says so is wrong.
BUILT = datetime(2026, 11, 1, tzinfo=timezone.utc)

_TIMEX_BYTES = 512  # more than struct timex has on any system
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized
_TIMESYNCD = Path("/run/systemd/timesync/synchronized")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def kernel_is_synchronized() -> bool:
    """Whether the kernel's clock is kept by a time service (adjtimex(2), or systemd-timesyncd's word)."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Zeros are modes = 0: ask, change nothing.
    state = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return 0 <= state < _TIME_ERROR or _TIMESYNCD.exists()


class Clock:
    """Stamps. The wall clock is trusted when it is synchronized and not before the agent was built."""

    def __init__(
        self, now: Callable[[], float] = time.time, synchronized: Callable[[], bool] = kernel_is_synchronized
    ) -> None:
        self._now, self._synchronized = now, synchronized

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.fromtimestamp(self._now(), timezone.utc)

    def trusted(self) -> bool:
        """Whether the wall clock can be believed."""
        return self.now() >= BUILT and self._synchronized()

    def stamp(self) -> Stamp:
        """Now."""
        return Stamp(
            at=self.now(), clock_trusted=self.trusted(), monotonic_s=time.monotonic(), boot_id=_boot_id()
        )


@cache
def _boot_id() -> str:
    return _BOOT_ID.read_text("ascii").strip()
