"""Rollouts in the store: begun, stopped, and moved on step by step, each step one transaction.

A step reads where a rollout stands, decides by the rules of :mod:`edge.monitor.rollout`, and writes that down
together with the orders that follow from it. So a monitor may be killed at any moment, several may take
steps, and a step that is taken again changes nothing.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Connection, Row, select, update

from edge.errors import BadInputError
from edge.monitor import rollout as rules
from edge.monitor.rollout import Asked, Cart, Member, Plan, Standing
from edge.monitor.store import audit, commands
from edge.monitor.store.database import Database

__all__ = ["View", "change", "record_outcome", "start", "step", "views"]

_ACTOR = "rollout"
_Key = tuple[str, str]


@dataclass(frozen=True)
class View:
    """A rollout and its carts, to be shown. ``why`` it is in its state, or what it waits for."""

    id: str
    bundle: str
    version: str
    site: str
    state: rules.State
    stage: int
    stage_since: float
    created: float
    created_by: str
    plan: Plan
    why: str
    members: tuple[Member, ...]


def start(
    database: Database, bundle: str, version: str, site: str, plan: Plan, by: str, now: float
) -> tuple[str, bool]:
    """Begin a rollout over the carts that have the bundle, of one site or (``site`` empty) of all.

    Returns:
        Its id, and whether it is new: the same one that runs already is not begun again.

    Raises:
        BadInputError: another one of this bundle and site is not over, or no cart has the bundle.
        UnavailableError: the store cannot be used for now.
    """
    id_ = f"{bundle}-{version}-{secrets.token_hex(2)}"

    def write(connection: Connection) -> tuple[str, bool]:
        table = database.tables["rollout"]
        mine = select(table).where(table.c.bundle == bundle, table.c.state.in_(rules.OPEN))
        for other in connection.execute(mine.with_for_update()).all():
            same = (other.version, other.site, other.plan) == (version, site, plan.model_dump_json())
            if same:
                return str(other.id), False
            if not site or not other.site or other.site == site:
                raise BadInputError(
                    f"{bundle}: rollout {other.id} is {other.state}; wait for its end, or abort it first"
                )
        carts = _carts(connection, database, bundle, site)
        if not carts:
            where = f"site '{site}'" if site else "any site"
            raise BadInputError(f"{bundle}: no cart of {where} is known to have this bundle")
        row = {"id": id_, "created": now, "created_by": by, "bundle": bundle, "version": version}
        row |= {"site": site, "plan": plan.model_dump_json(), "stage": 0, "stage_since": now}
        connection.execute(table.insert(), row | {"state": "running", "reason": "begun"})
        stages = rules.assign(id_, plan, version, carts.values())
        _enrol(connection, database, id_, stages, now)
        said: dict[str, Any] = {"rollout": id_, "bundle": bundle, "version": version, "site": site or "all"}
        said |= {"carts": len(stages), "plan": plan.model_dump(mode="json")}
        audit.append(connection, database, by, "rollout_started", said, now)
        return id_, True

    return database.write(write).result()


def change(
    database: Database,
    id_: str,
    to: Literal["running", "paused", "aborted"],
    by: str,
    now: float,
    why: str = "",
) -> bool:
    """Pause, resume or abort a rollout; False if it is so already. What carts have begun they finish.

    Resuming a halted one accepts what had halted it: carts that failed stay as they are and count no more.

    Raises:
        BadInputError: there is none of this id, or it is over.
        UnavailableError: the store cannot be used for now.
    """

    def write(connection: Connection) -> bool:
        row = _locked(connection, database, id_)
        if row is None:
            raise BadInputError(f"{id_}: there is no such rollout; see 'scanwright rollout status'")
        if row.state == to or (to == "paused" and row.state == "halted"):
            return False
        if row.state not in rules.OPEN:
            raise BadInputError(f"{id_}: is {row.state} already")
        said: dict[str, Any] = {"rollout": id_, "from": row.state, "why": why}
        if row.state == "halted" and to == "running":
            said["accepted"] = _accept(connection, database, row, now)
        _set(connection, database, row, to, row.stage, now, why or f"{to} by {by}")
        audit.append(connection, database, by, f"rollout_{to}", said, now)
        return True

    return database.write(write).result()


def step(database: Database, now: float) -> None:
    """Move all running rollouts on.

    Raises:
        UnavailableError: the store cannot be used for now.
    """
    table = database.tables["rollout"]
    for (id_,) in database.read(select(table.c.id).where(table.c.state == "running")):
        database.write(lambda connection, id_=id_: _step(connection, database, id_, now)).result()  # type: ignore[misc]


def record_outcome(
    connection: Connection,
    database: Database,
    site: str,
    device: str,
    bundle: str,
    version: str,
    outcome: Literal["committed", "refused", "rolled_back"],
    reason: str | None,
    now: float,
) -> int:
    """Take an outcome that came another way than over MQTT, such as by a stick, within a transaction of
    :meth:`Database.write`; to how many rollouts it mattered. Again, or late, it changes nothing."""
    table, member = database.tables["rollout"], database.tables["rollout_device"]
    query = select(table.c.id).where(
        table.c.bundle == bundle, table.c.version == version, table.c.state.in_(rules.OPEN)
    )
    state = "done" if outcome == "committed" else "failed"
    detail = None if state == "done" else f"{outcome}: {reason}" if reason else outcome
    changed = 0
    for (id_,) in connection.execute(query.order_by(table.c.id)).all():
        mine = (member.c.rollout == id_) & (member.c.site == site) & (member.c.device == device)
        undecided = member.c.state.in_(("waiting", "ordered"))
        new = {"state": state, "since": now, "detail": detail}
        if connection.execute(update(member).where(mine & undecided).values(**new)).rowcount:
            said = {"rollout": id_, "site": site, "device": device, "state": state, "detail": detail}
            audit.append(connection, database, _ACTOR, "rollout_outcome", said | {"by": "stick"}, now)
            changed += 1
    return changed


def views(database: Database, id_: str | None = None) -> list[View]:
    """Rollouts with their carts, the newest first; of one id, that one.

    Raises:
        UnavailableError: the store cannot be used for now.
    """
    table, member = database.tables["rollout"], database.tables["rollout_device"]
    query = select(table).order_by(table.c.created.desc())
    found = []
    for row in database.read(query if id_ is None else query.where(table.c.id == id_)):
        rows = database.read(
            select(member)
            .where(member.c.rollout == row.id)
            .order_by(member.c.stage, member.c.site, member.c.device)
        )
        found.append(
            View(
                id=row.id,
                bundle=row.bundle,
                version=row.version,
                site=row.site,
                state=row.state,
                stage=row.stage,
                stage_since=row.stage_since,
                created=row.created,
                created_by=row.created_by,
                plan=Plan.model_validate_json(row.plan),
                why=row.reason or "",
                members=tuple(_member(one) for one in rows),
            )
        )
    return found


def _step(connection: Connection, database: Database, id_: str, now: float) -> None:
    row = _locked(connection, database, id_)
    if row is None or row.state != "running":
        return
    plan = Plan.model_validate_json(row.plan)
    members = _members(connection, database, id_)
    decided = {key for key, member in members.items() if member.state not in ("waiting", "ordered")}
    carts = _carts(connection, database, row.bundle, row.site, decided)
    # Carts that appeared meanwhile get it with the last.
    new = {key: len(plan.stages) - 1 for key in carts.keys() - members.keys() if not carts[key].retired}
    _enrol(connection, database, id_, new, now)
    members |= {key: Member(*key, stage, since=now) for key, stage in new.items()}
    for key, member in members.items():
        if key in decided:
            continue
        cart = carts.get(key) or Cart(*key, online=False, retired=True)
        state, detail = rules.judged(member, cart, row.version)
        if (state, detail) != (member.state, member.detail):
            since = now if state != member.state else member.since
            members[key] = _turn(
                connection, database, row, replace(member, state=state, detail=detail, since=since)
            )
    online = {key: cart.online for key, cart in carts.items()}
    drifts = _drifts(connection, database, row)
    found = rules.standing(plan, row.stage, row.stage_since, list(members.values()), online, drifts, now)
    if found.state == "running":
        for key, member in members.items():
            if key in carts and rules.asks(member, carts[key], found.stage, now):
                _order(connection, database, row, member, now)
    _stand(connection, database, row, found, now)


def _stand(connection: Connection, database: Database, row: Row[Any], found: Standing, now: float) -> None:
    if (found.state, found.stage) == (row.state, row.stage):
        if found.why != row.reason:
            table = database.tables["rollout"]
            connection.execute(update(table).where(table.c.id == row.id).values(reason=found.why))
        return
    _set(connection, database, row, found.state, found.stage, now, found.why)
    kind = "rollout_stage" if found.state == row.state else f"rollout_{found.state}"
    said = {"rollout": row.id, "stage": found.stage, "why": found.why}
    audit.append(connection, database, _ACTOR, kind, said, now)


def _turn(connection: Connection, database: Database, row: Row[Any], member: Member) -> Member:
    table = database.tables["rollout_device"]
    mine = (table.c.rollout == row.id) & (table.c.site == member.site) & (table.c.device == member.device)
    new = {"state": member.state, "detail": member.detail, "since": member.since}
    connection.execute(update(table).where(mine).values(**new))
    said = {"rollout": row.id, "site": member.site, "device": member.device}
    said |= {"state": member.state, "detail": member.detail}
    audit.append(connection, database, _ACTOR, "rollout_outcome", said, member.since)
    return member


def _order(connection: Connection, database: Database, row: Row[Any], member: Member, now: float) -> None:
    arguments = {"name": row.bundle, "version": row.version}
    actor = f"{_ACTOR} {row.id}"
    id_ = commands.order(connection, database, member.site, member.device, "update", arguments, actor, now)
    table = database.tables["rollout_device"]
    mine = (table.c.rollout == row.id) & (table.c.site == member.site) & (table.c.device == member.device)
    since = member.since if member.state == "ordered" else now
    new = {"state": "ordered", "since": since, "command": id_, "detail": None}
    connection.execute(update(table).where(mine).values(**new))
    said = {"rollout": row.id, "site": member.site, "device": member.device, "command": id_}
    audit.append(connection, database, _ACTOR, "rollout_ordered", said, now)


def _set(
    connection: Connection, database: Database, row: Row[Any], state: str, stage: int, now: float, why: str
) -> None:
    table = database.tables["rollout"]
    new = {"state": state, "stage": stage, "stage_since": now, "reason": why}
    connection.execute(update(table).where(table.c.id == row.id).values(**new))


def _accept(connection: Connection, database: Database, row: Row[Any], now: float) -> int:
    """Let what failed, or told no outcome for too long, count no more."""
    table = database.tables["rollout_device"]
    overdue = now - Plan.model_validate_json(row.plan).patience_s
    failed = (table.c.state == "failed") | ((table.c.state == "ordered") & (table.c.since < overdue))
    return connection.execute(
        update(table).where(table.c.rollout == row.id, failed).values(state="excused", since=now)
    ).rowcount


def _enrol(
    connection: Connection, database: Database, id_: str, stages: Mapping[_Key, int], now: float
) -> None:
    rows = [
        {"rollout": id_, "site": site, "device": device, "stage": stage, "state": "waiting", "since": now}
        for (site, device), stage in sorted(stages.items())
    ]
    if rows:
        connection.execute(database.tables["rollout_device"].insert(), rows)


def _locked(connection: Connection, database: Database, id_: str) -> Row[Any] | None:
    """The rollout's row, which no other worker takes meanwhile."""
    table = database.tables["rollout"]
    return connection.execute(select(table).where(table.c.id == id_).with_for_update()).first()


def _members(connection: Connection, database: Database, id_: str) -> dict[_Key, Member]:
    member, command = database.tables["rollout_device"], database.tables["command"]
    query = (
        select(member, *(command.c[name] for name in ("ordered_at", "sent_at", "answered_at", "ok", "error")))
        .join(command, member.c.command == command.c.id, isouter=True)
        .where(member.c.rollout == id_)
        .order_by(member.c.site, member.c.device)
    )
    members = {}
    for row in connection.execute(query).all():
        asked = None
        if row.ordered_at is not None:
            asked = Asked(row.ordered_at, row.sent_at, row.answered_at, row.ok, row.error)
        members[row.site, row.device] = replace(_member(row), asked=asked)
    return members


def _member(row: Row[Any]) -> Member:
    return Member(row.site, row.device, row.stage, row.state, row.since, row.detail)


def _drifts(connection: Connection, database: Database, row: Row[Any]) -> Sequence[str]:
    """Alarms of drift of the new version at the rollout's sites since its stage began."""
    table = database.tables["event"]
    query = select(table.c.site, table.c.message, table.c.data).where(
        table.c.code == "drift_alarm", table.c.origin == "monitor", table.c.at >= row.stage_since
    )
    if row.site:
        query = query.where(table.c.site == row.site)
    return [
        f"{found.site}: {found.message}"
        for found in connection.execute(query).all()
        if (data := json.loads(found.data)).get("bundle") == row.bundle and data.get("version") == row.version
    ]


def _carts(
    connection: Connection, database: Database, bundle: str, site: str, but: Collection[_Key] = ()
) -> dict[_Key, Cart]:
    """Carts that are known to have the bundle, in a slot or fixed; ``but`` some that need no look."""
    table = database.tables["device"]
    columns = ("site", "device", "online", "bundles", "health", "health_at", "birth", "retired_at")
    query = select(*(table.c[name] for name in columns))
    if site:
        query = query.where(table.c.site == site)
    carts = {}
    for row in connection.execute(query).all():
        if (row.site, row.device) not in but and (cart := _cart(row, bundle)) is not None:
            carts[cart.key] = cart
    return carts


def _cart(row: Row[Any], bundle: str) -> Cart | None:
    fixed = dict(part.split(" ", 1) for part in (row.bundles or "").split(", ") if part)
    said = row.health or row.birth
    slots = json.loads(said).get("slots", ()) if said else ()
    slot = next((one for one in slots if one["name"] == bundle), None)
    if slot is None and bundle not in fixed:
        return None
    slotted, slot = slot is not None, slot or {}
    return Cart(
        site=row.site,
        device=row.device,
        online=bool(row.online),
        retired=row.retired_at is not None,
        slotted=slotted,
        version=slot.get("version") or fixed.get(bundle),
        settled=slot.get("state", "idle") == "idle",
        result=slot.get("result"),
        result_version=slot.get("result_version"),
        reason=slot.get("reason"),
        said_at=row.health_at or 0.0,
    )
