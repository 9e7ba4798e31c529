"""Logs on standard error: one JSON object a line, or plain lines for a person at a terminal.

What is logged names things by source, id and case code; file names and header values may identify a patient
and never get here.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import datetime, timezone
from pathlib import Path

__all__ = ["set_up"]

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


def set_up(level: str) -> None:
    """Send the records of the whole process to standard error, from ``level`` (debug, info, …) up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Readable() if sys.stderr.isatty() else _Json())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _where(record: logging.LogRecord) -> dict[str, list[str]]:
    """The places that an exception came through; not its words, which may name a file."""
    if not record.exc_info:
        return {}
    passed = traceback.extract_tb(record.exc_info[2])
    return {"where": [f"{Path(place.filename).name}:{place.lineno} {place.name}" for place in passed]}


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}
