"""The agent's state folder, which one agent at a time may use."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import BadInputError, ScanwrightError

__all__ = ["CASE_KEY", "DATABASE", "SLOTS", "check_state", "lock_state", "running_agent"]

DATABASE = "agent.db"
CASE_KEY = "case.key"  # destroyed, all that names a patient is lost
SLOTS = "slots"  # folder of what updates replace
_LOCK = "lock"


@contextmanager
def lock_state(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and hold it for this process alone.

    Raises:
        BadInputError: it cannot be made or written.
        ScanwrightError: another agent holds it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadInputError(f"state: {folder} cannot be written ({error.strerror})") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            raise ScanwrightError(
                f"state: {folder} is in use by another agent (process {pid});"
                " stop that one, or give each its own"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)


def check_state(folder: Path) -> None:
    """Whether the folder is there or could be made; nothing is made.

    Raises:
        BadInputError: it is not, and could not.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise BadInputError(f"state: {folder} cannot be written ({there} is no folder that may be written)")


def running_agent(folder: Path) -> int | None:
    """Process id of the agent that holds a state folder, or None."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(descriptor, 20, 0) or b"0")
    finally:
        os.close(descriptor)
    return None
