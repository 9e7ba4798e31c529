"""The clock: what time it is, whether the wall clock can be believed, and what a record's time really was."""

from __future__ import annotations

import ctypes
import json
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from edge.agent.database import Database
from edge.files import write_durably
from edge.mqtt.payloads import Stamp

__all__ = ["BUILT", "Clock", "TimeFloor", "corrected", "kernel_is_synchronized", "note_offset"]

log = logging.getLogger(__name__)

# No agent of this version was built before: a clock that says so is wrong.
BUILT = datetime(2026, 11, 1, tzinfo=timezone.utc)

_TIMEX_BYTES = 512  # more than struct timex has on any system
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized
_TIMESYNCD = Path("/run/systemd/timesync/synchronized")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_UNTRUSTED = b'"clock_trusted":false'


def kernel_is_synchronized() -> bool:
    """Whether the kernel's clock is kept by a time service (adjtimex(2), or systemd-timesyncd's word)."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Zeros are modes = 0: ask, change nothing.
    state = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return 0 <= state < _TIME_ERROR or _TIMESYNCD.exists()


class TimeFloor:
    """A time that has passed for sure: the latest of when the agent was built, when the site's authority was
    made, and the last time that this device knew. A wall clock below it is behind."""

    def __init__(self, path: Path, *passed: datetime) -> None:
        """``path`` keeps the last known time across power cuts; ``passed`` are other times that have."""
        self._path = path
        self._passed = (BUILT, *passed)
        self._known = self._read()

    def __call__(self) -> datetime:
        """The floor, in UTC."""
        return max(*self._passed, self._known)

    def raise_to(self, now: datetime) -> None:
        """Remember that it is ``now`` at least.

        Raises:
            OSError: that cannot be written.
        """
        if now > self():
            write_durably(self._path, now.isoformat(timespec="seconds").encode())
            self._known = now

    def _read(self) -> datetime:
        try:
            return datetime.fromisoformat(self._path.read_text("ascii").strip()).astimezone(timezone.utc)
        except FileNotFoundError:
            return BUILT
        except (OSError, ValueError, OverflowError):
            log.warning("the last known time cannot be read; it is taken anew", extra={"file": "clock"})
            return BUILT


class Clock:
    """Stamps. The wall clock is trusted when it is synchronized and not below the floor."""

    def __init__(
        self,
        now: Callable[[], float] = time.time,
        synchronized: Callable[[], bool] = kernel_is_synchronized,
        monotonic: Callable[[], float] = time.monotonic,
        floor: Callable[[], datetime] = lambda: BUILT,
    ) -> None:
        self._now, self._synchronized, self._monotonic, self.floor = now, synchronized, monotonic, floor

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.fromtimestamp(self._now(), timezone.utc)

    def behind(self) -> bool:
        """Whether the wall clock is certainly wrong: it says a time that has passed."""
        return self.now() < self.floor()

    def trusted(self) -> bool:
        """Whether the wall clock can be believed."""
        return not self.behind() and self._synchronized()

    def offset_s(self) -> float:
        """Wall clock less monotonic clock, in seconds."""
        return self._now() - self._monotonic()

    def monotonic_s(self) -> float:
        """Seconds of the boot's monotonic clock."""
        return self._monotonic()

    def stamp(self) -> Stamp:
        """Now."""
        return Stamp(
            at=self.now(), clock_trusted=self.trusted(), monotonic_s=self._monotonic(), boot_id=_boot_id()
        )


def note_offset(database: Database, stamp: Stamp) -> Future[None]:
    """Note what the wall clock of a stamp's boot is, from a stamp whose clock is trusted."""
    offset_s = stamp.at.timestamp() - stamp.monotonic_s

    def insert(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO clock_offset (boot_id, offset_s) VALUES (?, ?)", (stamp.boot_id, offset_s)
        )

    return database.write(insert)


def corrected(database: Database, payload: bytes) -> bytes:
    """A JSON record, with ``stamp.corrected_at`` if its clock was not trusted but has become known since.

    The record itself stays as it was written.
    """
    if _UNTRUSTED not in payload:
        return payload
    record: dict[str, Any] = json.loads(payload)
    stamp = record["stamp"]
    rows = database.read(
        "SELECT offset_s FROM clock_offset WHERE boot_id = ? ORDER BY seq DESC LIMIT 1", (stamp["boot_id"],)
    )
    if not rows:
        return payload
    at = datetime.fromtimestamp(rows[0][0] + stamp["monotonic_s"], timezone.utc)
    stamp["corrected_at"] = at.isoformat().replace("+00:00", "Z")
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()


@cache
def _boot_id() -> str:
    return _BOOT_ID.read_text("ascii").strip()
