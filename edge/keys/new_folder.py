"""The folder that new keys are made in: whole, or not there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import BadInputError
from edge.files import sync_folder

__all__ = ["new_folder"]


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, for its owner alone, which is ``path`` once it is filled; on the disk after that.

    Raises:
        BadInputError: something is there already, or cannot be written.
    """
    if path.exists():
        raise BadInputError(f"{path}: is there already; its keys are not made anew over it")
    new = path.with_name(path.name + ".new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700, parents=True)
        yield new
        new.rename(path)
        sync_folder(path.absolute().parent)
    except OSError as error:
        raise BadInputError(f"{path}: cannot be written ({error.strerror})") from error
