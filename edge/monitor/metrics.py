"""The fleet's figures for Prometheus. A cart's own figures have the names that its screen gives them too.

A cart that is not connected keeps what lasts, as it last said it: its certificate, its disk, its backlog.
What is of the moment, such as the temperature, is left out of it. Retired carts are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from edge.exposition import family

__all__ = ["fleet"]

_DAY_S = 86400.0
_Figure = tuple[str, Literal["gauge", "counter"], str, Callable[[Any, float], float | None]]


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else value * factor


def _now(device: Any, value: float | None) -> float | None:
    return value if device.online else None


def _certificate_s(device: Any, now: float) -> float | None:
    if device.certificate_days is None:
        return None
    return float(device.certificate_days * _DAY_S - (now - device.health_at))


_FIGURES: tuple[_Figure, ...] = (
    ("online", "gauge", "1 while the cart is connected.", lambda d, _: d.online),
    (
        "last_heard_timestamp_seconds",
        "gauge",
        "When the cart was heard last.",
        lambda d, _: d.last_heard or None,
    ),
    (
        "last_finding_timestamp_seconds",
        "gauge",
        "When its newest finding was decided.",
        lambda d, _: d.last_finding,
    ),
    (
        "last_result_timestamp_seconds",
        "gauge",
        "When a frame gave a result last.",
        lambda d, _: d.last_good,
    ),
    ("outbox_messages", "gauge", "Messages that wait to be delivered.", lambda d, _: d.backlog),
    ("outbox_oldest_seconds", "gauge", "Age of the one that waits longest.", lambda d, _: d.backlog_oldest_s),
    ("outbox_set_aside", "gauge", "Messages that the broker never takes.", lambda d, _: d.set_aside),
    ("disk_free_bytes", "gauge", "Room on its disk.", lambda d, _: _times(1e6, d.disk_free_mb)),
    (
        "disk_full_in_seconds",
        "gauge",
        "Until the disk is full, as it filled lately.",
        lambda d, _: _times(_DAY_S, d.disk_days),
    ),
    (
        "temperature_celsius",
        "gauge",
        "The hottest sensor.",
        lambda d, _: _now(d, d.temperature_celsius),
    ),
    ("throttled", "gauge", "1 while the board is slowed down.", lambda d, _: _now(d, d.throttled)),
    ("refusing_images", "gauge", "1 while no new image is taken.", lambda d, _: d.refusing),
    (
        "storage_wear_ratio",
        "gauge",
        "Used life of the eMMC.",
        lambda d, _: _times(0.01, d.storage_wear_percent),
    ),
    ("certificate_seconds", "gauge", "Until the certificate for the broker ends.", _certificate_s),
    (
        "clock_trusted",
        "gauge",
        "1 while the wall clock can be believed.",
        lambda d, _: _now(d, d.clock_trusted),
    ),
    ("clock_ahead_seconds", "gauge", "How far its clock is ahead.", lambda d, _: _now(d, d.clock_off_s)),
)


def fleet(devices: Iterable[Any], findings: int, now: float) -> str:
    """All figures, in base units; one that is not known is left out.

    Args:
        devices: rows of the table ``device``.
        findings: how many were ever stored.
        now: seconds since 1970.
    """
    known = [(d, {"site": d.site, "device": d.device}) for d in devices if d.retired_at is None]
    parts = [
        family(name, kind, text, ((labels, value(d, now)) for d, labels in known))
        for name, kind, text, value in _FIGURES
    ]
    agents = ((labels | {"version": d.agent_version}, 1.0) for d, labels in known if d.agent_version)
    parts.append(family("agent_info", "gauge", "The agent.", agents))
    bundles = (
        (labels | {"bundle": name, "version": version, "signed": str(not d.unsigned).lower()}, 1.0)
        for d, labels in known
        if d.bundles
        for name, _, version in (bundle.partition(" ") for bundle in d.bundles.split(", "))
    )
    parts.append(family("bundle_info", "gauge", "Each bundle in use.", bundles))
    heard = max((d.last_heard for d, _ in known), default=None)
    parts.append(
        family("monitor_last_heard_timestamp_seconds", "gauge", "When any cart was heard.", [({}, heard)])
    )
    parts.append(
        family("monitor_findings_total", "counter", "Findings that were ever stored.", [({}, findings)])
    )
    return "".join(parts)
