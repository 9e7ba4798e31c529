"""What the monitor does by itself, again and again, beside receiving."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from edge.monitor.store.database import UnavailableError

__all__ = ["Repeated"]

log = logging.getLogger(__name__)

_FIRST_S = 10.0
_SHARE = 10.0  # it rests at least so many times what it took


class Repeated:
    """A thread that does ``work`` every ``every_s`` seconds. Several workers may each have one.

    A store that cannot be used for now is waited for.
    """

    def __init__(self, name: str, work: Callable[[], object], every_s: float) -> None:
        self._work, self._every_s = work, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after what is being done."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        wait = min(_FIRST_S, self._every_s)
        while not self._stop.wait(wait):
            begun = time.monotonic()
            try:
                self._work()
            except UnavailableError as error:
                log.warning("%s: waits for the store: %s", self._thread.name, error)
            wait = max(self._every_s, _SHARE * (time.monotonic() - begun))
