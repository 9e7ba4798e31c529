"""RUN: the folder that a training leaves, and everything after it starts from."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.errors import BadInputError
from edge.files import write_durably

__all__ = ["UNFINISHED", "begin", "check_free", "write_run"]

UNFINISHED = "unfinished"
"""Folder in RUN for what a training needs to go on after a kill; it goes when the run is whole."""

_IDENTITY = "training.json"


def check_free(out: Path) -> None:
    """Make ``out``, or check that nothing but an unfinished training is in it: results are never overwritten.

    Raises:
        BadInputError: it holds something, is a file, or cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        occupied = any(path.name != UNFINISHED for path in out.iterdir())
    except OSError as error:
        raise BadInputError(f"{out}: cannot be used as the run's folder ({error.strerror})") from error
    if occupied:
        raise BadInputError(f"{out}: is not empty; name another folder with --out, or remove this one first")


def begin(out: Path, identity: Mapping[str, Any]) -> tuple[Path, bool]:
    """The folder that a training keeps its progress in, and whether it goes on with an earlier one.

    ``identity`` is all that decides what comes out: recipe, seed, data, versions.

    Raises:
        BadInputError: what is there belongs to another training, or the folder cannot be written to.
    """
    folder = out / UNFINISHED
    text = json.dumps(identity, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    try:
        if (folder / _IDENTITY).exists():
            if json.loads((folder / _IDENTITY).read_text("utf-8")).get("sha256") != digest:
                raise BadInputError(
                    f"{folder}: is of a training with another recipe, seed, data or version; give the same "
                    "again to go on with it, remove it, or name another folder with --out"
                )
            return folder, True
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / _IDENTITY, json.dumps({"sha256": digest}).encode(), 0o644)
    except (OSError, ValueError, AttributeError) as error:
        raise BadInputError(f"{folder}: cannot be used ({error}); remove it to begin again") from error
    return folder, False


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
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)
