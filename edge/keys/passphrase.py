"""The passphrase of a key: from a file, the environment, or the terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from edge.errors import BadInputError

__all__ = ["given_passphrase"]


def given_passphrase(file: Path | None, variable: str, prompt: str, *, confirm: bool = False) -> bytes | None:
    """From the file, else the environment, else the terminal if there is one, else none.

    Raises:
        BadInputError: the file cannot be read, or begins with an empty line.
    """
    if file is not None:
        try:
            lines = file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"{file}: the passphrase cannot be read") from error
        if not lines or not lines[0]:
            raise BadInputError(f"{file}: the first line is empty; put the passphrase there")
        return lines[0].encode()
    if variable in os.environ:
        return os.environ[variable].encode() or None
    if not sys.stdin.isatty():
        return None
    said: str = click.prompt(
        prompt, default="", show_default=False, hide_input=True, confirmation_prompt=confirm
    )
    return said.encode() or None
