"""What carts say, written down: one call keeps a batch of messages, within the writer's transaction."""

from __future__ import annotations

import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BindParameter, Connection, Update, bindparam, case, func, select, update

from edge.monitor.drift import measures
from edge.monitor.hearing import Heard, finding_time, off_s
from edge.monitor.store.database import Database
from edge.mqtt.payloads import Ack, Birth, Event, Finding, Health, Response

__all__ = ["Kept", "MonitorEvent", "keep", "tell"]

SAMPLE_S = 600
"""Of each so many seconds one Health is kept as a sample."""

_LARGEST = 2**53  # a count beyond is no count
_DAY_S = 86400
# Order of the reviewers' work: positives and the uncertain first.
_FIRST = {"positive": 0.0, "no_result": 1.0, "negative": 2.0}


@dataclass(frozen=True)
class MonitorEvent:
    """An event of the monitor itself, about a cart or (both empty) nobody. ``key``: told once for it."""

    code: str
    message: str
    site: str = ""
    device: str = ""
    severity: str = "warning"
    key: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Kept:
    """What came of a batch: ids of all its findings by cart, how many were new, and receipts that were given
    for findings that are not here, by cart."""

    findings: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    new: int = 0
    forged: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))


def keep(connection: Connection, database: Database, batch: Sequence[Heard], now: float) -> Kept:
    """Write a batch down. What was there stays: an id of a finding or event is kept once."""
    kept = Kept()
    by_kind: dict[str, list[Heard]] = defaultdict(list)
    for heard in batch:
        by_kind[heard.kind].append(heard)
    _carts(connection, database, batch, now)
    _devices(connection, database, by_kind)
    _findings(connection, database, by_kind["finding"], now, kept)
    _events(connection, database, by_kind["event"])
    _overlays(connection, database, by_kind["overlay"])
    _responses(connection, database, by_kind["response"])
    _receipts(connection, database, by_kind["ack"], kept)
    return kept


def _carts(connection: Connection, database: Database, batch: Sequence[Heard], now: float) -> None:
    """That they were heard, and when: what the broker had kept says only that there is such a cart."""
    carts: dict[tuple[str, str], float] = {}
    for heard in batch:
        if heard.kind != "ack":
            key = heard.site, heard.device
            carts[key] = max(carts.get(key, 0.0), heard.received if heard.live else 0.0)
    if not carts:
        return
    table, statement = database.tables["device"], database.insert("device")
    new = statement.excluded
    later = case((new.last_heard > table.c.last_heard, new.last_heard), else_=table.c.last_heard)
    statement = statement.on_conflict_do_update(
        index_elements=("site", "device"), set_={"last_heard": later, "changed": new.changed}
    )
    rows = [
        {"site": site, "device": device, "first_heard": now, "last_heard": at, "changed": now}
        for (site, device), at in sorted(carts.items())
    ]
    connection.execute(statement, rows)


def tell(connection: Connection, database: Database, events: Iterable[MonitorEvent], now: float) -> None:
    """Write events of the monitor down."""
    rows = [
        {
            "site": event.site,
            "device": event.device,
            "id": uuid.uuid5(uuid.NAMESPACE_OID, event.key).hex if event.key else uuid.uuid4().hex,
            "origin": "monitor",
            "at": now,
            "received": now,
            "severity": event.severity,
            "code": event.code,
            "message": _text(event.message),
            "data": json.dumps(dict(event.data)),
        }
        for event in events
    ]
    if rows:
        connection.execute(database.insert("event").on_conflict_do_nothing(), rows)


def _devices(connection: Connection, database: Database, by_kind: Mapping[str, Sequence[Heard]]) -> None:
    """The last word of each cart on each subject."""
    last = {
        kind: {(h.site, h.device): h for h in by_kind[kind]} for kind in ("availability", "birth", "health")
    }
    there = {
        key: {"there": bool(heard.body), "since": heard.received}
        for key, heard in last["availability"].items()
    }
    _execute(connection, _online(database), there)
    device = database.tables["device"]
    for rows in (
        {key: _birth(heard) for key, heard in last["birth"].items()},
        {key: _health(heard) for key, heard in last["health"].items()},
    ):
        if rows:
            names = next(iter(rows.values()))
            _execute(connection, update(device).values({name: bindparam(name) for name in names}), rows)
    samples = {
        (heard.site, heard.device, int(heard.received // SAMPLE_S * SAMPLE_S)): heard
        for heard in by_kind["health"]
    }
    if samples:
        sampled = [
            {"site": site, "device": name, "at": at, **_sample(heard)}
            for (site, name, at), heard in samples.items()
        ]
        connection.execute(database.insert("health_sample").on_conflict_do_nothing(), sampled)
    retired = {
        (h.site, h.device): {"gone": h.received}
        for h in by_kind["event"]
        if isinstance(h.body, Event) and h.body.code == "retired"
    }
    _execute(connection, update(device).values(retired_at=bindparam("gone")), retired)


def _online(database: Database) -> Update:
    """Whether a cart is there; since when only changes with it."""
    table = database.tables["device"]
    there = bindparam("there", type_=table.c.online.type)
    same = table.c.online.is_not_distinct_from(there)
    since = case((same, table.c.online_since), else_=bindparam("since"))
    return update(table).values(online=there, online_since=since)


def _birth(heard: Heard) -> dict[str, Any]:
    body = heard.body
    assert isinstance(body, Birth)
    return {
        "birth": heard.text,
        "birth_at": finding_time(body.stamp, heard.received)[0],
        "agent_version": _text(body.agent_version),
        "target": body.target,
        "bundles": ", ".join(sorted(f"{bundle.name} {bundle.version}" for bundle in body.bundles)),
        "unsigned": not all(bundle.signed for bundle in body.bundles),
        "clock_trusted": body.stamp.clock_trusted,
        "retired_at": None,
    }


def _health(heard: Heard) -> dict[str, Any]:
    body = heard.body
    assert isinstance(body, Health)
    return {
        "health": heard.text,
        "health_at": heard.received,
        "clock_trusted": body.stamp.clock_trusted,
        "clock_off_s": off_s(body.stamp, heard.received),
        "backlog": _number(body.backlog),
        "backlog_oldest_s": body.backlog_oldest_s,
        "disk_free_mb": body.disk_free_mb,
        "disk_days": body.disk_days,
        "temperature_celsius": body.temperature_celsius,
        "throttled": bool(body.throttling),
        "refusing": body.refusing,
        "certificate_days": body.certificate_days,
        "storage_wear_percent": body.storage_wear_percent,
        "set_aside": _number(body.set_aside),
    }


def _sample(heard: Heard) -> dict[str, Any]:
    body = heard.body
    assert isinstance(body, Health)
    return {
        "temperature_celsius": body.temperature_celsius,
        "disk_free_mb": body.disk_free_mb,
        "memory_mb": body.memory_mb,
        "load": body.load,
        "backlog": _number(body.backlog),
        "inference_ms": body.inference_ms,
    }


def _findings(
    connection: Connection, database: Database, batch: Sequence[Heard], now: float, kept: Kept
) -> None:
    table = database.tables["finding"]
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    bodies: dict[tuple[str, str, str], Finding] = {}
    for heard in batch:
        assert isinstance(heard.body, Finding)
        kept.findings[heard.site, heard.device].append(heard.body.id)
        key = (heard.site, heard.device, heard.body.id)
        rows.setdefault(key, _finding(heard, heard.body))
        bodies.setdefault(key, heard.body)
    if not rows:
        return
    statement = database.insert("finding").on_conflict_do_nothing()
    columns = (table.c.site, table.c.device, table.c.id)
    new = [tuple(row) for row in connection.execute(statement.returning(*columns), list(rows.values()))]
    kept.new = len(new)
    _count(connection, database, [(rows[key], bodies[key]) for key in new])
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for key in new:
        row = rows[key]
        if not row["test"]:
            said = last.setdefault(key[:2], {"found": 0.0, "good": 0.0, "good_case": None, "now": now})
            said["found"] = max(said["found"], row["at"])
            if row["decision"] != "no_result" and row["at"] >= said["good"]:
                said["good"], said["good_case"] = row["at"], row["case_code"]
    _execute(connection, _found(database), last)


def _found(database: Database) -> Update:
    """What a cart found last, and last that was a result; of both only what is later than what is known."""
    device = database.tables["device"]
    found: BindParameter[float] = bindparam("found")
    good: BindParameter[float] = bindparam("good")
    new = func.coalesce(device.c.last_finding, 0.0) < found
    better = func.coalesce(device.c.last_good, 0.0) < good
    return update(device).values(
        last_finding=case((new, found), else_=device.c.last_finding),
        last_good=case((better, good), else_=device.c.last_good),
        last_good_case=case((better, bindparam("good_case")), else_=device.c.last_good_case),
        changed=bindparam("now"),
    )


def _finding(heard: Heard, body: Finding) -> dict[str, Any]:
    at, known = finding_time(body.stamp, heard.received)
    return {
        "site": heard.site,
        "device": heard.device,
        "id": body.id,
        "at": at,
        "time_known": known,
        "received": heard.received,
        "bundle": body.bundle.name,
        "version": body.bundle.version,
        "decision": body.decision,
        "label": body.label,
        "probability": body.probability,
        "test": body.test,
        "case_code": body.case_code,
        "study": body.study,
        "priority": _priority(body),
        "reviewed": False,
        "payload": heard.text,
    }


def _priority(body: Finding) -> float:
    """Place in the reviewers' work: positives, then what is uncertain, then negatives near the threshold."""
    known = body.thresholds.keys() & body.probabilities.keys()
    near = min((abs(body.probabilities[name] - body.thresholds[name]) for name in known), default=0.5)
    return _FIRST[body.decision] + min(near, 0.99)


def _count(connection: Connection, database: Database, new: Sequence[tuple[dict[str, Any], Finding]]) -> None:
    counts: Counter[tuple[str, str, str, str, int, int]] = Counter()
    for row, body in new:
        if not body.test:
            for measure, bin_ in measures(body):
                day = int(row["at"] // _DAY_S)
                counts[row["site"], row["bundle"], row["version"], measure, day, bin_] += 1
    if not counts:
        return
    names = ("site", "bundle", "version", "measure", "day", "bin")
    statement = database.insert("histogram")
    table = database.tables["histogram"]
    statement = statement.on_conflict_do_update(
        index_elements=names, set_={"n": table.c.n + statement.excluded.n}
    )
    rows = [dict(zip(names, key, strict=True)) | {"n": n} for key, n in sorted(counts.items())]
    connection.execute(statement, rows)


def _events(connection: Connection, database: Database, batch: Sequence[Heard]) -> None:
    rows = []
    for heard in batch:
        body = heard.body
        assert isinstance(body, Event)
        at, _ = finding_time(body.stamp, heard.received)
        rows.append(
            {
                "site": heard.site,
                "device": heard.device,
                "id": body.id,
                "origin": "cart",
                "at": at,
                "received": heard.received,
                "severity": body.severity,
                "code": body.code,
                "message": _text(body.message),
                "data": json.dumps(body.data),
            }
        )
    if rows:
        connection.execute(database.insert("event").on_conflict_do_nothing(), rows)


def _overlays(connection: Connection, database: Database, batch: Sequence[Heard]) -> None:
    rows = [
        {"site": h.site, "device": h.device, "finding": h.name, "received": h.received, "png": h.body}
        for h in batch
    ]
    if rows:
        connection.execute(database.insert("overlay").on_conflict_do_nothing(), rows)


def _responses(connection: Connection, database: Database, batch: Sequence[Heard]) -> None:
    command, verdict = database.tables["command"], database.tables["verdict"]
    for heard in batch:
        body = heard.body
        assert isinstance(body, Response)
        mine = (command.c.site == heard.site) & (command.c.device == heard.device)
        asked = (command.c.id == _text(body.correlation_id)) & (command.c.name == _text(heard.name))
        answer = {
            "answered_at": heard.received,
            "ok": body.ok,
            "error": None if body.error is None else _text(body.error),
            "result": json.dumps(body.result),
        }
        statement = update(command).where(mine & asked & command.c.answered_at.is_(None)).values(**answer)
        if connection.execute(statement).rowcount and heard.name == "verdict":
            told = {"told": True, "problem": answer["error"]}
            connection.execute(update(verdict).where(verdict.c.command == body.correlation_id).values(**told))


def _receipts(connection: Connection, database: Database, batch: Sequence[Heard], kept: Kept) -> None:
    """Receipts that somebody else gave: of findings that are not here they are forged."""
    table = database.tables["finding"]
    for heard in batch:
        assert isinstance(heard.body, Ack)
        ids = set(heard.body.ids)
        query = select(table.c.id).where(
            table.c.site == heard.site, table.c.device == heard.device, table.c.id.in_(ids)
        )
        if missing := ids - set(connection.execute(query).scalars()):
            kept.forged[heard.site, heard.device] += sorted(missing)


def _execute(
    connection: Connection, statement: Update, rows: Mapping[tuple[str, str], dict[str, Any]]
) -> None:
    """Change rows of carts, in order: two workers must not wait for each other's."""
    if rows:
        table = statement.table
        mine = (table.c.site == bindparam("of_site")) & (table.c.device == bindparam("of_device"))
        given = [
            {"of_site": site, "of_device": device, **row} for (site, device), row in sorted(rows.items())
        ]
        connection.execute(statement.where(mine), given)


def _text(text: str) -> str:
    """PostgreSQL keeps no NUL."""
    return text.replace("\x00", "\ufffd")


def _number(value: int) -> float:
    return float(min(value, _LARGEST))
