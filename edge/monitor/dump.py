"""The whole store as files: CSV for each table that people read, and the findings as they came."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Table, func, select

from edge.monitor.export import FINDING_COLUMNS, finding_row, to_csv
from edge.monitor.store.database import Database

__all__ = ["dump"]

_PAGE = 5000
# Accounts, sessions and pictures stay where they are.
_TABLES = {
    "device": ("site", "device"),
    "health_sample": ("site", "device", "at"),
    "event": ("seq",),
    "verdict": ("seq",),
    "command": ("id",),
    "audit": ("seq",),
    "rollout": ("id",),
    "rollout_device": ("rollout", "site", "device"),
}


def dump(database: Database, out: Path) -> dict[str, int]:
    """Write the files into the folder ``out``; how many rows each has.

    Raises:
        OSError: it cannot be written.
        UnavailableError: the store cannot be read.
    """
    counts: dict[str, int] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        finding = database.tables["finding"]
        total = database.read(select(func.count()).select_from(finding))[0][0]
        task = progress.add_task("findings", total=total)

        def findings() -> Iterator[dict[str, Any]]:
            with (out / "findings.jsonl").open("w", encoding="utf-8") as lines:
                for row in _rows(database, finding, ("seq",)):
                    lines.write(row.payload + "\n")
                    progress.advance(task)
                    yield finding_row(row)

        counts["finding"] = _write(out / "findings.csv", FINDING_COLUMNS, findings())
        for name, order in _TABLES.items():
            table = database.tables[name]
            columns = [column.name for column in table.columns]
            rows = (row._asdict() for row in _rows(database, table, order))
            counts[name] = _write(out / f"{name}s.csv", columns, rows)
    return counts


def _rows(database: Database, table: Table, order: tuple[str, ...]) -> Iterator[Any]:
    columns = [table.c[name] for name in order]
    offset = 0
    while rows := database.read(select(table).order_by(*columns).limit(_PAGE).offset(offset)):
        yield from rows
        offset += len(rows)


def _write(path: Path, columns: Any, rows: Iterator[dict[str, Any]]) -> int:
    n = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal n
        for row in rows:
            n += 1
            yield row

    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(to_csv(columns, counted()))
    return n
