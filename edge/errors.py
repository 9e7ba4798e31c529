"""Errors that reach a user as one line and an exit code, never as a traceback."""

from __future__ import annotations

__all__ = ["BadInputError", "ScanwrightError"]


class ScanwrightError(Exception):
    """The job failed for a reason that the message names (exit code 1)."""

    exit_code = 1


class BadInputError(ScanwrightError):
    """What the user gave cannot be used; the message names file, field and remedy (exit code 2)."""

    exit_code = 2
