"""What sends to other machines, in a thread of its own: they may hold it up, and nothing else."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

__all__ = ["Sender"]

_PATIENCE_S = 2.0


class Sender(ABC):
    """Begins and ends a thread called ``name``. What is on its way when it ends is sent again at the next
    start, if its answer comes too late."""

    def __init__(self, name: str) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, without waiting long for another machine."""
        self._stop.set()
        self._thread.join(_PATIENCE_S)

    @abstractmethod
    def _run(self) -> None:
        """Send what there is, until ``_stop`` is set."""
