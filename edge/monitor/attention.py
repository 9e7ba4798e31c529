"""Which cart needs a visit, and why. Pure rules over what is known of a cart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from edge.monitor.oddities import CLOCK_OFF_S

__all__ = ["Level", "Reason", "newest_versions", "reasons", "urgency"]

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_STALE_S = 15 * _MINUTE  # connected, and has not said how it is
_AWAY_S, _LOST_S = _DAY, 14 * _DAY  # offline: seen to, and missed
_HOT_C, _WARM_C = 80.0, 70.0  # a Raspberry Pi slows down at 80
_DISK_DAYS = (7.0, 30.0)
_DISK_MB = 1000.0
_BACKLOG_S = 2 * _HOUR
_CERTIFICATE_DAYS = (14.0, 60.0)
_NO_CASE_S = 7 * _DAY
_WEAR_PERCENT = 80.0
_TWICE_S = 2 * _DAY
_FIRST = ("refusing", "twice", "certificate_ended", "disk_days", "hot", "certificate", "backlog")


class Level(IntEnum):
    """How much a reason asks for: a visit, a look from afar, or to be borne in mind."""

    VISIT = 0
    LOOK = 1
    NOTE = 2


@dataclass(frozen=True)
class Reason:
    """One thing that is not as it should be. ``code`` is a text's key; ``amount`` fills it (``unit`` says of
    what: ``span`` is seconds, ``text`` stands for itself)."""

    level: Level
    code: str
    amount: float | str | None = None
    unit: str = ""


def newest_versions(bundles: Iterable[str | None]) -> dict[str, tuple[int, ...]]:
    """The newest version of each model that any cart of the fleet has; ``bundles`` as in the table device."""
    newest: dict[str, tuple[int, ...]] = {}
    for listed in bundles:
        for name, version in _models(listed):
            newest[name] = max(version, newest.get(name, version))
    return newest


def _models(listed: str | None) -> list[tuple[str, tuple[int, ...]]]:
    pairs = (one.rpartition(" ") for one in (listed or "").split(", ") if one)
    return [(name, tuple(int(part) for part in version.split("."))) for name, _, version in pairs]


def reasons(row: Any, now: float, newest: Mapping[str, tuple[int, ...]]) -> list[Reason]:
    """What is not as it should be with a cart (a row of the table device), the most urgent first."""
    if row.retired_at is not None:
        return []
    found = [*_link(row, now), *_disk(row), *_clock(row), *_work(row, now), *_model(row, newest)]
    return sorted(found, key=_order)


def _link(row: Any, now: float) -> Iterable[Reason]:
    if row.twice_at is not None and now - row.twice_at < _TWICE_S:
        yield Reason(Level.VISIT, "twice")
    if not row.online:
        away = now - row.last_heard
        if not row.last_heard:
            yield Reason(Level.LOOK, "never")
        elif away >= _AWAY_S:
            yield Reason(Level.VISIT if away >= _LOST_S else Level.LOOK, "offline", away, "span")
        else:
            yield Reason(Level.NOTE, "offline", away, "span")
    elif now - max(row.health_at or 0.0, row.online_since or 0.0) >= _STALE_S:
        since = now - row.health_at if row.health_at else None
        yield Reason(Level.LOOK, "stale" if since else "silent", since, "span")
    if row.online and (row.backlog_oldest_s or 0.0) >= _BACKLOG_S:
        yield Reason(Level.LOOK, "backlog", row.backlog_oldest_s, "span")
    if row.set_aside:
        yield Reason(Level.NOTE, "set_aside", row.set_aside)
    if row.certificate_days is not None and row.health_at is not None:
        left = row.certificate_days - (now - row.health_at) / _DAY
        soon, later = _CERTIFICATE_DAYS
        if left <= 0:
            yield Reason(Level.VISIT, "certificate_ended")
        elif left <= later:
            yield Reason(Level.VISIT if left <= soon else Level.NOTE, "certificate", left * _DAY, "span")


def _disk(row: Any) -> Iterable[Reason]:
    soon, later = _DISK_DAYS
    if row.refusing:
        yield Reason(Level.VISIT, "refusing")
    elif row.disk_days is not None and row.disk_days <= later:
        level = Level.VISIT if row.disk_days <= soon else Level.NOTE
        yield Reason(level, "disk_days", row.disk_days * _DAY, "span")
    elif row.disk_free_mb is not None and row.disk_free_mb < _DISK_MB:
        yield Reason(Level.LOOK, "disk_free", row.disk_free_mb)
    if (row.storage_wear_percent or 0.0) >= _WEAR_PERCENT:
        yield Reason(Level.LOOK, "wear", row.storage_wear_percent)
    if row.temperature_celsius is not None and row.temperature_celsius >= _WARM_C:
        level = Level.VISIT if row.temperature_celsius >= _HOT_C else Level.NOTE
        yield Reason(level, "hot", row.temperature_celsius)
    elif row.throttled:
        yield Reason(Level.LOOK, "throttled")


def _clock(row: Any) -> Iterable[Reason]:
    if row.clock_trusted is False:
        yield Reason(Level.NOTE, "clock_untrusted")
    elif abs(row.clock_off_s or 0.0) > CLOCK_OFF_S:
        yield Reason(Level.LOOK, "clock_wrong", abs(row.clock_off_s), "span")


def _work(row: Any, now: float) -> Iterable[Reason]:
    if row.last_good is None:
        if row.last_finding is not None:
            yield Reason(Level.LOOK, "no_good_case")
    elif row.online and now - row.last_good >= _NO_CASE_S:
        yield Reason(Level.LOOK, "last_good", now - row.last_good, "span")


def _model(row: Any, newest: Mapping[str, tuple[int, ...]]) -> Iterable[Reason]:
    if row.unsigned:
        yield Reason(Level.LOOK, "unsigned")
    for name, version in _models(row.bundles):
        if version < newest.get(name, version):
            yield Reason(Level.NOTE, "old_model", f"{name} {'.'.join(map(str, version))}", "text")


def _order(reason: Reason) -> tuple[int, int]:
    """The worst level first, and of one level what keeps results from patients."""
    first = _FIRST.index(reason.code) if reason.code in _FIRST else len(_FIRST)
    return reason.level, first


def urgency(found: list[Reason]) -> tuple[int, int, int]:
    """A key by which carts are sorted, those that need a visit first: the worst level, what, how many."""
    if not found:
        return len(Level), 0, 0
    worst = found[0].level
    return (*_order(found[0]), -sum(reason.level == worst for reason in found))
