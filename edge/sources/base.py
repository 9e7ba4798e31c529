"""What a source is: something that yields frames, and says when one could not be had."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from edge.bundle.reasons import Reason
from edge.imaging.frame import Frame

__all__ = ["Done", "Failure", "Item", "Notice", "Original", "Source", "file_sha256"]


@dataclass(frozen=True)
class Failure:
    """Something arrived that gives no frame. ``identity`` and ``study`` are as in a Frame.

    ``message`` and ``path`` may identify a patient and stay on the device. ``path`` is the file that failed,
    which the receiver of this takes away into the quarantine.
    """

    identity: str
    study: str
    source: str
    reason: Reason
    message: str
    path: Path | None = None


@dataclass(frozen=True)
class Original:
    """The file that the frames which follow come from: it tells whose they are, and is kept encrypted.

    Comes before the first of them. ``study`` is as in a Frame; ``path`` may identify a patient.
    """

    path: Path
    study: str


@dataclass(frozen=True)
class Done:
    """All frames of what these keys stand for were yielded: once those are safe it need not be read again."""

    keys: tuple[str, ...]


@dataclass(frozen=True)
class Notice:
    """Something about the source itself that a person may want to know; nothing here identifies a patient."""

    severity: Literal["info", "warning", "error"]
    code: str
    message: str
    data: dict[str, str | int | float | bool | None] = field(default_factory=dict)


Item = Frame | Original | Failure | Done | Notice


class Source(Protocol):
    """Where frames come from."""

    @property
    def name(self) -> str:
        """As configured."""

    def frames(self, stop: threading.Event) -> Iterator[Item]:
        """What arrives, in order, until ``stop`` is set or there is no more.

        A file's frames wait for the consumer, none is left out; of something live the newest frame is taken
        each time the consumer asks.
        """


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
