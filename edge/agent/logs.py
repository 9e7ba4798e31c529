"""Logs on standard error: one JSON object a line, or plain lines for a person at a terminal.

What is logged names things by source, id and case code; file names and header values may identify a patient
and never get here.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections import deque
from datetime import datetime, timezone
from pathlib import Path

__all__ = ["KEPT", "set_up", "tail"]

KEPT = 1000
"""Lines that are kept in memory for headquarters to ask for."""

_LONGEST = 2000  # characters of a line that is kept
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line = {
            "at": at,
            "level": record.levelname.lower(),
            "part": record.name,
            "message": record.getMessage(),
        }
        return json.dumps(line | _extra(record) | _where(record), default=str)


class _Readable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        extra = " ".join(f"{key}={value}" for key, value in _extra(record).items())
        return f"{at} {record.levelname.lower():7} {record.getMessage()} {extra}".rstrip()


class _Recent(logging.Handler):
    """Keeps the last lines in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record)[:_LONGEST])


_recent = _Recent()
_recent.setFormatter(_Json())


def set_up(level: str) -> None:
    """Send the records of the whole process to standard error, from ``level`` (debug, info, …) up, and keep
    the last of them for :func:`tail`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Readable() if sys.stderr.isatty() else _Json())
    logging.basicConfig(level=level.upper(), handlers=[handler, _recent], force=True)


def tail(lines: int, room: int) -> list[str]:
    """The last ``lines`` lines since the start, oldest first; fewer if as JSON text they take more than
    ``room`` bytes."""
    found: deque[str] = deque()
    for line in reversed(list(_recent.lines)[-lines:]):
        room -= len(json.dumps(line, ensure_ascii=False).encode())
        if room < 0:
            break
        found.appendleft(line)
    return list(found)


def _where(record: logging.LogRecord) -> dict[str, list[str]]:
    """The places that an exception came through; not its words, which may name a file."""
    if not record.exc_info:
        return {}
    passed = traceback.extract_tb(record.exc_info[2])
    return {"where": [f"{Path(place.filename).name}:{place.lineno} {place.name}" for place in passed]}


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}
