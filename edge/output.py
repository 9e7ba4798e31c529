"""What commands print: JSON for scripts, to a file or to standard output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edge.errors import BadInputError

__all__ = ["json_option", "write_json"]

json_option = click.option(
    "--json",
    "json_file",
    metavar="FILE",
    help="Write the answer as JSON; '-' is standard output, and nothing else is printed there.",
)


def write_json(answer: Mapping[str, Any], file: str) -> None:
    """Write ``answer`` to a file, or to standard output for ``-``.

    Raises:
        BadInputError: the file cannot be written.
    """
    text = json.dumps(answer, indent=2, ensure_ascii=False) + "\n"
    if file == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"{file}: cannot be written ({error.strerror})") from error
