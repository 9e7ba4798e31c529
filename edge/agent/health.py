"""How the device is: what the operating system says, and what the agent counts."""

from __future__ import annotations

import os
import statistics
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from edge.agent import board
from edge.agent.outbox import Outbox
from edge.mqtt.payloads import Health, Stamp

__all__ = ["Counters", "Filling", "measure"]

_APART_S, _LOOKS = 3600.0, 72  # seconds between remembered looks at the disk, and how many
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


class Filling:
    """How fast a disk fills, by what was free over the last days: a look an hour is remembered."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, float]] = deque(maxlen=_LOOKS)

    def days(self, now_s: float, free: float) -> float | None:
        """Days until it is full if it goes on so; None in the first hour, and where it does not fill."""
        if not self._looks or now_s - self._looks[-1][0] >= _APART_S:
            self._looks.append((now_s, free))
        since_s, before = self._looks[0]
        a_day = (before - free) / max(now_s - since_s, _APART_S) * 86400
        return free / a_day if now_s - since_s >= _APART_S and a_day > 0 else None


@dataclass
class Counters:
    """What happened since the start."""

    started: float = field(default_factory=time.monotonic)
    frames: int = 0
    findings: int = 0
    quarantined: int = 0
    last_frame: datetime | None = None
    last_result: datetime | None = None
    last_case: str | None = None
    disk: Filling = field(default_factory=Filling)
    inference_ms: deque[float] = field(default_factory=lambda: deque(maxlen=100))


def measure(stamp: Stamp, counters: Counters, outbox: Outbox, state: Path) -> Health:
    """The device's Health; ``state`` is a folder on the disk whose free space counts."""
    disk = os.statvfs(state)
    free = disk.f_bavail * disk.f_frsize
    return Health(
        stamp=stamp,
        uptime_s=time.monotonic() - counters.started,
        frames=counters.frames,
        findings=counters.findings,
        quarantined=counters.quarantined,
        backlog=sum(outbox.counts().values()),
        backlog_oldest_s=outbox.oldest_s(),
        last_frame=counters.last_frame,
        last_result=counters.last_result,
        last_case=counters.last_case,
        inference_ms=statistics.median(counters.inference_ms) if counters.inference_ms else None,
        disk_free_mb=free / 1e6,
        disk_days=counters.disk.days(time.monotonic(), free),
        memory_mb=int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_MB,
        temperature_celsius=board.hottest_celsius(),
        throttling=board.throttling(),
        storage_wear_percent=board.wear_percent(),
        load=os.getloadavg()[0],
        set_aside=sum(outbox.aside().values()),
        dropped=outbox.dropped(),
    )
