"""What was found in each study so far: kept with each finding, summed up when the study closes."""

from __future__ import annotations

import sqlite3
import time

from edge.agent.commands import Scalar
from edge.mqtt.payloads import Finding

__all__ = ["add", "close"]

_RANK = {"positive": 2, "negative": 1, "no_result": 0}


def add(connection: sqlite3.Connection, finding: Finding) -> None:
    """Count a new finding, within the transaction that keeps it; its study is open again if it was closed.

    The best finding is the most probable positive, else the most probable negative; one without a result is
    none.
    """
    decision = finding.decision
    connection.execute(
        "INSERT OR IGNORE INTO study (study, case_code) VALUES (?, ?)", (finding.study, finding.case_code)
    )
    connection.execute(
        f"UPDATE study SET open = 1, heard = ?, {decision} = {decision} + 1 WHERE study = ?",
        (time.time(), finding.study),
    )
    if _RANK[decision]:
        rank = _RANK[decision] + (finding.probability or 0.0)
        connection.execute(
            "UPDATE study SET best = ?1, best_rank = ?2 WHERE study = ?3 AND best_rank < ?2",
            (finding.id, rank, finding.study),
        )


def close(connection: sqlite3.Connection, study: str) -> dict[str, Scalar] | None:
    """Close a study, within a transaction: what there is to tell of it; None if it is not open.

    ``update`` is True when it was closed, and told, before.
    """
    row = connection.execute(
        "SELECT case_code, positive, negative, no_result, best, closings FROM study WHERE study = ? AND open",
        (study,),
    ).fetchone()
    if row is None:
        return None
    connection.execute("UPDATE study SET open = 0, closings = closings + 1 WHERE study = ?", (study,))
    case_code, positive, negative, no_result, best, closings = row
    return {
        "case_code": case_code,
        "study": study,
        "positive": positive,
        "negative": negative,
        "no_result": no_result,
        "best": best,
        "update": closings > 0,
    }
