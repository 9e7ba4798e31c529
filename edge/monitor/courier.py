"""The courier's end at headquarters: what carts sent by stick goes into the store, as if it had come by MQTT,
and what proves that goes back with the next stick."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from edge.errors import BadInputError, ScanwrightError
from edge.files import write_durably
from edge.monitor.hearing import Heard, RefusedError, hear
from edge.monitor.rollouts import record_outcome
from edge.monitor.store import audit
from edge.monitor.store.database import Database, UnavailableError
from edge.monitor.store.intake import MonitorEvent, keep, tell
from edge.mqtt.payloads import Event
from edge.mqtt.topics import Topics
from edge.schema import is_name
from edge.update.courier import FOLDER, PARCELS, StickError, confirm, open_below
from edge.update.parcel import Head, Item, Opened, ParcelError, open_parcel

__all__ = ["Arrived", "Custody", "import_stick"]

_BATCH = 256
_MOST_PARCELS = 10_000
_ACTOR = "courier"
_OUTCOMES = {
    "update_committed": "committed",
    "update_refused": "refused",
    "update_rolled_back": "rolled_back",
}


@dataclass(frozen=True)
class Custody:
    """Who may read and whom to believe: headquarters' secret key (text), the sites' authorities and their
    revocation lists (PEM)."""

    identity: str
    authorities: Sequence[bytes]
    revoked: Sequence[bytes] = ()


@dataclass
class Arrived:
    """What came of one parcel: ``name`` is its file's, ``cart`` SITE/DEVICE, ``problem`` why nothing of it
    was taken. ``refused`` are ids of messages that are none."""

    name: str
    cart: str
    findings: int = 0
    new: int = 0
    events: int = 0
    refused: list[str] = field(default_factory=list)
    expired: bool = False
    problem: str | None = None


def import_stick(
    stick: Path, database: Database, custody: Custody, receipts: Path, audits: Path | None, now: float
) -> Iterator[Arrived]:
    """Take the parcels of a stick into the store, one after the other; again, or in another order, it comes
    to the same.

    Args:
        stick: where it is mounted.
        database: the monitor's.
        custody: keys.
        receipts: folder that the receipts are kept in for the next stick: SITE/DEVICE/PARCEL.json.
        audits: folder for the carts' audit logs, SITE/DEVICE.jsonl; None leaves them.
        now: seconds since 1970.

    Raises:
        BadInputError: it is no courier's stick, or a key is none.
        ScanwrightError: the store or a folder cannot be written.
    """
    for name in _parcels(stick):
        _, site, device, file = name.split("/")
        arrived = Arrived(file, f"{site}/{device}")
        try:
            with tempfile.TemporaryFile() as text, open_below(stick / FOLDER, name) as sealed:
                opened = open_parcel(sealed, text, custody.identity, custody.authorities, custody.revoked)
                head = opened.head
                if (head.site, head.device) != (site, device):
                    raise ParcelError("forged", f"lies with {site}/{device}, but is of another cart")
                arrived.expired = opened.expired
                entries = _take(opened, database, arrived, now)
        except (ParcelError, StickError) as error:
            arrived.problem = str(error)
        except UnavailableError:
            raise
        except OSError as error:
            arrived.problem = f"cannot be read ({error.strerror or error})"
        else:
            _keep_audit(audits, head, entries, database, now)
            _write_receipt(receipts, head, arrived)
        if arrived.problem:
            said = f"a parcel that came by stick was not taken: {arrived.problem}"
            key = f"parcel {name} {arrived.problem}"
            _tell(database, [MonitorEvent("parcel_refused", said, site, device, key=key)], now)
        yield arrived


def _parcels(stick: Path) -> list[str]:
    """The parcels below ``scanwright``, a cart's earlier ones first."""
    root = stick / FOLDER / PARCELS
    if not (stick / FOLDER).is_dir() or (stick / FOLDER).is_symlink():
        raise BadInputError(f"{stick}: no courier's stick; it has no folder '{FOLDER}'")
    found = []
    for site in _folders(root):
        for device in _folders(site):
            found += [
                f"{PARCELS}/{site.name}/{device.name}/{path.name}"
                for path in sorted(device.iterdir())
                if path.suffix == ".age" and not path.name.startswith(".")
            ]
    if len(found) > _MOST_PARCELS:
        raise BadInputError(f"{stick}: more than {_MOST_PARCELS} parcels; no cart has written these")
    return found


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir() or folder.is_symlink():
        return []
    return [p for p in sorted(folder.iterdir()) if is_name(p.name) and p.is_dir() and not p.is_symlink()]


def _take(opened: Opened, database: Database, arrived: Arrived, now: float) -> list[dict[str, Any]]:
    """Write down what a parcel holds; the entries of the cart's audit log."""
    head = opened.head
    known = _known(database, head)
    batch: list[tuple[Item, Heard]] = []
    entries: list[dict[str, Any]] = []
    for item in opened.items():
        if item.kind == "audit":
            entries.append(_entry(item))
            continue
        heard = _heard(item, head, known, arrived, now)
        if heard is not None:
            batch.append((item, heard))
        if len(batch) == _BATCH:
            _store(database, head, batch, arrived, now)
            batch = []
    _store(database, head, batch, arrived, now)
    said = {"site": head.site, "device": head.device, "parcel": head.id, "findings": arrived.findings}
    if arrived.new or arrived.events:
        database.write(
            lambda connection: audit.append(connection, database, _ACTOR, "parcel", said, now)
        ).result()
    return entries


def _heard(item: Item, head: Head, known: dict[str, float], arrived: Arrived, now: float) -> Heard | None:
    """A message, as if it had come by MQTT; None where it is none, or says less than what is known."""
    topics = Topics(head.site, head.device)
    topic = topics.overlay(item.name) if item.kind == "overlay" else topics.up(item.kind)
    if item.kind in ("birth", "health"):
        # A clock that is not trusted has hardly run ahead: of it, too, this is the best that is known.
        made = min(head.made.timestamp(), now)
        if made <= known[item.kind]:
            return None
        return _or_refused(topic, item, made, arrived, retained=False)
    return _or_refused(topic, item, now, arrived, retained=True)


def _or_refused(topic: str, item: Item, at: float, arrived: Arrived, *, retained: bool) -> Heard | None:
    try:
        heard = hear(topic, item.data(), at, retained=retained)
    except RefusedError:
        arrived.refused += [item.id] if item.id else []
        return None
    arrived.findings += item.kind == "finding"
    return heard


def _known(database: Database, head: Head) -> dict[str, float]:
    """When the cart last said how it is, by any way."""
    device = database.tables["device"]
    mine = (device.c.site == head.site) & (device.c.device == head.device)
    rows = database.read(select(device.c.birth_at, device.c.health_at).where(mine))
    birth, health = rows[0] if rows else (None, None)
    return {"birth": birth or 0.0, "health": health or 0.0}


def _store(
    database: Database, head: Head, batch: Sequence[tuple[Item, Heard]], arrived: Arrived, now: float
) -> None:
    if not batch:
        return

    def write(connection: Connection) -> tuple[int, int]:
        events = _new_events(connection, database, head, [heard for _, heard in batch])
        kept = keep(connection, database, [heard for _, heard in batch], now)
        for event in events:
            _outcome(connection, database, head, event, now)
        return kept.new, len(events)

    try:
        new, events = database.write(write).result()
    except (SQLAlchemyError, ValueError, OverflowError):
        if len(batch) == 1:  # this one cannot be stored by this database
            arrived.refused.append(batch[0][0].id)
            arrived.findings -= batch[0][0].kind == "finding"
            return
        for one in batch:
            _store(database, head, [one], arrived, now)
        return
    arrived.new += new
    arrived.events += events


def _new_events(
    connection: Connection, database: Database, head: Head, batch: Iterable[Heard]
) -> list[Event]:
    events = {heard.body.id: heard.body for heard in batch if isinstance(heard.body, Event)}
    table = database.tables["event"]
    mine = (table.c.site == head.site) & (table.c.device == head.device) & table.c.id.in_(list(events))
    there = set(connection.execute(select(table.c.id).where(mine)).scalars()) if events else set()
    return [event for id_, event in events.items() if id_ not in there]


def _outcome(connection: Connection, database: Database, head: Head, event: Event, now: float) -> None:
    """What became of an update counts for its rollout, as if the cart had been online."""
    name, version, reason = (event.data.get(key) for key in ("name", "version", "reason"))
    if event.code in _OUTCOMES and isinstance(name, str) and isinstance(version, str):
        why = reason if isinstance(reason, str) else None
        outcome: Any = _OUTCOMES[event.code]
        record_outcome(connection, database, head.site, head.device, name, version, outcome, why, now)


def _entry(item: Item) -> dict[str, Any]:
    try:
        entry = json.loads(item.data())
        return dict(entry) | {"seq": int(entry["seq"]), "hash": str(entry["hash"])}
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ParcelError("damaged", "an entry of its audit log is damaged") from error


def _keep_audit(
    folder: Path | None, head: Head, entries: Sequence[dict[str, Any]], database: Database, now: float
) -> None:
    """Append what is new of a cart's audit log; say so where the past is not what it was."""
    if folder is None or not entries:
        return
    path = folder / head.site / f"{head.device}.jsonl"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = path.read_text("utf-8") if path.exists() else ""
        known = {entry["seq"]: entry["hash"] for entry in map(json.loads, text.splitlines())}
        new = [entry for entry in entries if entry["seq"] not in known]
        if new:
            lines = "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in new)
            write_durably(path, (text + lines).encode())
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ScanwrightError(f"{path}: is no audit log that can be added to; move it away") from error
    changed = [e["seq"] for e in entries if known.get(e["seq"], e["hash"]) != e["hash"]]
    if changed:
        said = f"its audit log was rewritten from entry {changed[0]} on; {path.name} has what it was"
        event = MonitorEvent("audit_rewritten", said, head.site, head.device, "error", f"audit {head.id}")
        _tell(database, [event], now)


def _write_receipt(folder: Path, head: Head, arrived: Arrived) -> None:
    receipt = confirm(head.id, arrived.refused, bytes.fromhex(head.token))
    path = folder / head.site / head.device / f"{head.number:08d}-{head.id}.json"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(path, receipt.model_dump_json().encode())
    except OSError as error:
        raise ScanwrightError(f"{path}: cannot be written ({error.strerror})") from error


def _tell(database: Database, events: Sequence[MonitorEvent], now: float) -> None:
    database.write(lambda connection: tell(connection, database, events, now)).result()
