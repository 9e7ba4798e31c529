"""A defect in any thread stops the whole agent: systemd starts a sound one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edge.agent.database import ClosedError
from edge.errors import ScanwrightError

__all__ = ["defects_stop"]

log = logging.getLogger(__name__)


@contextmanager
def defects_stop(stop: threading.Event) -> Iterator[None]:
    """Set ``stop`` when a thread ends by an error, and tell of it when the work has ended.

    A thread that outlived its database is no defect: it was asked to end while it waited for another machine,
    and what it did is done again after the next start.

    Raises:
        ScanwrightError: a thread did.
    """
    defect: list[str] = []

    def failed(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else "a thread"
        if isinstance(args.exc_value, ClosedError):
            log.info("a part ended after the database was closed", extra={"part": name})
            return
        if isinstance(args.exc_value, ScanwrightError):
            said = str(args.exc_value)
        else:
            what = args.exc_type.__name__
            said = f"the agent stopped on a defect in '{name}' ({what}); the log has the details"
        defect.append(said)
        stop.set()
        log.critical(said, exc_info=args.exc_value)

    hook, threading.excepthook = threading.excepthook, failed
    try:
        yield
    finally:
        threading.excepthook = hook
    if defect:
        raise ScanwrightError(defect[-1])
