"""What was found in each study so far: kept with each finding, summed up when the study closes."""

from __future__ import annotations

import json
import sqlite3
import time

from edge.agent.commands import Scalar
from edge.mqtt.payloads import Finding

__all__ = ["add", "close"]

_RANK = {"positive": 2, "negative": 1, "no_result": 0}
_CHOSEN = 4.0  # above every rank with its probability


def add(connection: sqlite3.Connection, finding: Finding, best: str | None = None) -> None:
    """Count a new finding, within the transaction that keeps it; its study is open again if it was closed.

    The best finding is the most probable positive, else the most probable negative; one without a result is
    none. ``best`` names another, as end-diastole of a beating heart is. What was measured over the newest
    clip is the study's.
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
    told: dict[str, Scalar] = {}
    for one in finding.measurements:
        if one.reason is not None:
            told[f"{one.name}_reason"] = one.reason
        elif one.name != "area":
            told[one.name] = one.value
    if best is not None:
        connection.execute(
            "UPDATE study SET best = ?, best_rank = ?, measured = ? WHERE study = ?",
            (best, _CHOSEN, json.dumps(told), finding.study),
        )
    elif told:
        connection.execute(
            "UPDATE study SET measured = ? WHERE study = ? AND best_rank < ?",
            (json.dumps(told), finding.study, _CHOSEN),
        )


def close(connection: sqlite3.Connection, study: str) -> dict[str, Scalar] | None:
    """Close a study, within a transaction: what there is to tell of it; None if it is not open.

    ``update`` is True when it was closed, and told, before. Measurements are there by name, with ``_reason``
    in place of one that could not be taken.
    """
    row = connection.execute(
        "SELECT case_code, positive, negative, no_result, best, closings, measured"
        " FROM study WHERE study = ? AND open",
        (study,),
    ).fetchone()
    if row is None:
        return None
    connection.execute("UPDATE study SET open = 0, closings = closings + 1 WHERE study = ?", (study,))
    case_code, positive, negative, no_result, best, closings, measured = row
    return {
        "case_code": case_code,
        "study": study,
        "positive": positive,
        "negative": negative,
        "no_result": no_result,
        "best": best,
        "update": closings > 0,
        **(json.loads(measured) if measured else {}),
    }
