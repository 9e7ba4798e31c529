"""The metered link's count of today, kept across restarts."""

from __future__ import annotations

import sqlite3
from functools import partial

from edge.agent.clock import Clock
from edge.agent.database import Database
from edge.mqtt.meter import Meter

__all__ = ["meter_of"]


def meter_of(database: Database, clock: Clock, cap: int | None) -> Meter:
    """The meter of this device. Its day is UTC's, by a clock that is not below the floor."""
    rows = database.read("SELECT day, bytes FROM metered ORDER BY day DESC LIMIT 1")
    return Meter(
        cap,
        lambda: f"{max(clock.now(), clock.floor()):%Y-%m-%d}",
        rows[0] if rows else ("", 0),
        lambda day, used: _keep(database, day, used),
    )


def _keep(database: Database, day: str, used: int) -> None:
    database.write(partial(_write, day=day, used=used))


def _write(connection: sqlite3.Connection, day: str, used: int) -> None:
    connection.execute("DELETE FROM metered WHERE day != ?", (day,))
    connection.execute(
        "INSERT INTO metered (day, bytes) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET bytes = ?2", (day, used)
    )
