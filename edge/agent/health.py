"""How the device is: what the operating system says, and what the agent counts."""

from __future__ import annotations

import os
import statistics
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from edge.agent.outbox import Outbox
from edge.mqtt.payloads import Health, Stamp

__all__ = ["Counters", "measure"]

_THERMAL = Path("/sys/class/thermal")
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass
class Counters:
    """What happened since the start."""

    started: float = field(default_factory=time.monotonic)
    frames: int = 0
    findings: int = 0
    quarantined: int = 0
    last_frame: datetime | None = None
    inference_ms: deque[float] = field(default_factory=lambda: deque(maxlen=100))


def measure(stamp: Stamp, counters: Counters, outbox: Outbox, state: Path) -> Health:
    """The device's Health; ``state`` is a folder on the disk whose free space counts."""
    disk = os.statvfs(state)
    return Health(
        stamp=stamp,
        uptime_s=time.monotonic() - counters.started,
        frames=counters.frames,
        findings=counters.findings,
        quarantined=counters.quarantined,
        backlog=sum(outbox.counts().values()),
        backlog_oldest_s=outbox.oldest_s(),
        last_frame=counters.last_frame,
        inference_ms=statistics.median(counters.inference_ms) if counters.inference_ms else None,
        disk_free_mb=disk.f_bavail * disk.f_frsize / 1e6,
        memory_mb=int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_MB,
        temperature_celsius=_hottest(_THERMAL.glob("thermal_zone*/temp")),
        load=os.getloadavg()[0],
        set_aside=sum(outbox.aside().values()),
        dropped=outbox.dropped(),
    )


def _hottest(zones: Iterable[Path]) -> float | None:
    readings = []
    for zone in zones:
        try:
            readings.append(int(zone.read_text("ascii")) / 1000)
        except (OSError, ValueError):
            continue  # a sensor that is off answers with an error
    return max(readings, default=None)
