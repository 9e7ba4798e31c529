"""RUN: the folder that a training leaves, and everything after it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge.errors import BadInputError

__all__ = ["check_free", "write_run"]


def check_free(out: Path) -> None:
    """Make ``out``, or check that it is empty: what an earlier training left is never overwritten.

    Raises:
        BadInputError: it holds something, is a file, or cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        occupied = any(out.iterdir())
    except OSError as error:
        raise BadInputError(f"{out}: cannot be used as the run's folder ({error.strerror})") from error
    if occupied:
        raise BadInputError(f"{out}: is not empty; name another folder with --out, or remove this one first")


def write_run(out: Path, members: Mapping[str, bytes]) -> None:
    """Write a finished training's files, by name; ``manifest.json`` last: a run that has one is whole.

    Raises:
        BadInputError: the folder cannot be written to.
    """
    try:
        for name in sorted(members, key=lambda name: name == "manifest.json"):
            (out / name).write_bytes(members[name])
    except OSError as error:
        raise BadInputError(f"{out}: cannot be written to ({error.strerror})") from error
