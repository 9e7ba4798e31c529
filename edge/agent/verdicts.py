"""What reviewers at headquarters say of findings: kept beside them, for the cart's screen."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from edge.agent.commands import Handler, Scalar
from edge.agent.database import Database
from edge.errors import BadInputError

__all__ = ["Verdict", "Verdicts"]

_LONGEST = 1000  # letters of all labels


@dataclass(frozen=True)
class Verdict:
    """``labels``: what is truly there, empty for nothing, None where the reviewer cannot tell; ``agrees``:
    whether the finding said so, None where it said nothing."""

    labels: str | None
    agrees: bool | None


class Verdicts:
    """Answers ``verdict``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def handlers(self) -> dict[str, Handler]:
        """The command, by name."""
        return {"verdict": self._take}

    def _take(self, arguments: Mapping[str, Scalar]) -> dict[str, Scalar]:
        finding, labels = arguments.get("finding"), arguments.get("labels")
        agrees, at = arguments.get("agrees"), arguments.get("reviewed_at")
        if labels is not None and (not isinstance(labels, str) or len(labels) > _LONGEST):
            raise BadInputError(f"labels: give text of at most {_LONGEST} letters, or null")
        if agrees is not None and not isinstance(agrees, bool):
            raise BadInputError("agrees: give true, false or null")
        try:
            when = datetime.fromisoformat(str(at))
        except ValueError as error:
            raise BadInputError("reviewed_at: give a time as ISO 8601 has it") from error
        if not self._database.read("SELECT 1 FROM finding WHERE id = ?", (str(finding),)):
            raise BadInputError("finding: this cart keeps no such finding any more")

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO verdict (finding, labels, agrees, reviewed_at) VALUES (?, ?, ?, ?)",
                (finding, labels, agrees, when.isoformat()),
            )

        self._database.write(write).result()
        return {}
