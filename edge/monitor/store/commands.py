"""Commands to carts: ordered on the page or by a rollout, sent once by whichever worker takes them first."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import Connection, select, update

from edge.monitor.store.database import Database
from edge.mqtt.payloads import Command

__all__ = ["Scalar", "Waiting", "claim", "of_device", "order", "waiting"]

Scalar = str | int | float | bool | None
_AT_ONCE = 200


@dataclass(frozen=True)
class Waiting:
    """A command that is to be sent to a cart."""

    site: str
    device: str
    name: str
    command: Command


def order(
    connection: Connection,
    database: Database,
    site: str,
    device: str,
    name: str,
    arguments: Mapping[str, Scalar],
    by: str,
    now: float,
) -> str:
    """Have a command sent; its id, by which its row and the cart's answer are found."""
    id_ = uuid.uuid4().hex
    row = {"id": id_, "site": site, "device": device, "name": name, "arguments": json.dumps(dict(arguments))}
    connection.execute(database.insert("command"), [row | {"ordered_at": now, "ordered_by": by}])
    return id_


def waiting(database: Database) -> bool:
    """Whether there is anything to send."""
    table = database.tables["command"]
    return bool(database.read(select(table.c.id).where(table.c.sent_at.is_(None)).limit(1)))


def claim(connection: Connection, database: Database, now: float) -> list[Waiting]:
    """Take commands to send, the oldest first: no other worker gets them."""
    table = database.tables["command"]
    query = select(table).where(table.c.sent_at.is_(None)).order_by(table.c.ordered_at).limit(_AT_ONCE)
    taken = []
    for row in connection.execute(query).all():
        mine = update(table).where(table.c.id == row.id, table.c.sent_at.is_(None)).values(sent_at=now)
        if connection.execute(mine).rowcount:
            command = Command(
                correlation_id=row.id,
                issued_at=datetime.fromtimestamp(now, timezone.utc),
                nonce=row.id,
                arguments=json.loads(row.arguments),
            )
            taken.append(Waiting(row.site, row.device, row.name, command))
    return taken


def of_device(database: Database, site: str, device: str, n: int) -> Sequence[Any]:
    """The newest ``n`` commands of a cart; those that tell verdicts are left out."""
    table = database.tables["command"]
    mine = (table.c.site == site) & (table.c.device == device) & (table.c.name != "verdict")
    return database.read(select(table).where(mine).order_by(table.c.ordered_at.desc()).limit(n))
