"""Room on the disk: new images are refused before anything that is kept comes to harm."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from edge.agent.recorder import Recorder
from edge.files import in_memory

__all__ = ["NoRoomError", "Room"]

_LOOK_S = 1.0  # how often the disk is looked at, and how soon a failed write is tried again
_BACK = 1.1  # so much of the least room must be there again: no coming and going at the limit


class NoRoomError(OSError):
    """What belongs to an image cannot be written for now: the disk is full, read-only or failing."""


class Room:
    """Whether a new image may be taken; says so when that changes.

    Not while the state folder's disk is memory or has less than the least free room, nor for a second after
    something that belongs to an image could not be written. What is refused stays with its source.
    """

    def __init__(
        self,
        folder: Path,
        least_mb: int,
        recorder: Recorder,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._least, self._recorder = folder, least_mb * 1_000_000, recorder
        self._monotonic = monotonic
        self._in_memory = in_memory(folder)
        self._next_look = float("-inf")
        self._failed = False
        self.refusing = False

    def enough(self) -> bool:
        """Look, at most once a second."""
        now = self._monotonic()
        if now < self._next_look:
            return not self.refusing
        self._next_look = now + _LOOK_S
        if self._failed:  # the next write shows whether it works again
            self._failed = False
            return True
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize
        if self._in_memory:
            self._refuse("the data partition is not mounted: restart the cart, then replace the card")
        elif free < self._least * (_BACK if self.refusing else 1):
            self._refuse(
                f"{free / 1e6:.0f} MB free on the state folder's disk, fewer than {self._least / 1e6:.0f}"
            )
        elif self.refusing:
            self.refusing = False
            self._recorder.tell("info", "disk_back", "new images are taken again")
        return not self.refusing

    def refused(self, error: NoRoomError) -> None:
        """Something of the image in hand could not be written: it is tried again in a while."""
        self._failed = True
        self._next_look = self._monotonic() + _LOOK_S
        self._refuse(error.strerror or "an error of the disk")

    def _refuse(self, why: str) -> None:
        if not self.refusing:
            self.refusing = True
            self._recorder.tell(
                "error",
                "disk_full",
                f"no new image is taken ({why}): they stay where they are until there is room;"
                " what is kept is safe",
            )
