"""Errors that reach a user as one line and an exit code, never as a traceback."""

from __future__ import annotations

__all__ = ["BadInputError", "ScanwrightError", "shown"]


class ScanwrightError(Exception):
    """The job failed for a reason that the message names (exit code 1)."""

    exit_code = 1


class BadInputError(ScanwrightError):
    """What the user gave cannot be used; the message names file, field and remedy (exit code 2)."""

    exit_code = 2


def shown(text: str) -> str:
    """A text of somebody else's (a cart's, a stick's) as one line that cannot steer a terminal or a log."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
