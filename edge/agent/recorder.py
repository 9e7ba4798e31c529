"""What was decided, made durable: each finding with its mark, its pictures and its message in one commit."""

from __future__ import annotations

import logging
import sqlite3
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial

from edge.agent import outbox, store, studies
from edge.agent.clock import Clock
from edge.agent.commands import Scalar
from edge.agent.config import OutboxConfig
from edge.agent.database import Database
from edge.agent.report import Report
from edge.errors import BadInputError
from edge.mqtt.payloads import Event, Severity
from edge.mqtt.topics import Topics

__all__ = ["Recorder"]

log = logging.getLogger(__name__)

_AHEAD = 1000  # commits that may be under way
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Recorder:
    """Writes findings and events, several commits ahead of the disk. Events may come from any thread."""

    def __init__(
        self,
        database: Database,
        topics: Topics,
        clock: Clock,
        caps: OutboxConfig = OutboxConfig(),  # noqa: B008  immutable
    ) -> None:
        self._database, self._topics, self._clock, self._caps = database, topics, clock, caps
        self._writing: deque[Future[int]] = deque()
        # When each open study was last heard of; after a restart its silence begins anew.
        now = time.monotonic()
        self._open = {study: now for (study,) in database.read("SELECT study FROM study WHERE open = 1")}

    def finding(self, report: Report, event: Event | None = None) -> Future[int]:
        """Keep a finding, and with it the event it comes with; nothing if the same id was kept before.

        The future is 1 or 0 when that is on the disk.
        """
        finding = report.finding
        payload = finding.model_dump_json()
        # Drawn here, not while the database is held.
        image, overlay, heat = report.image, report.overlay, report.heat

        def write(connection: sqlite3.Connection) -> int:
            if not store.mark(connection, finding.id):
                return 0
            store.add(connection, finding.id, payload, image, overlay, heat)
            studies.add(connection, finding, report.best)
            outbox.add(connection, "finding", finding.id, self._topics.finding, payload.encode())
            if event:
                self._add_event(connection, event)
            if heat and finding.evidence.overlay:
                self._add_overlay(connection, finding.id, heat)
            return 1

        if event:
            _log_event(event)
        self._open[finding.study] = time.monotonic()
        log.info(
            "finding",
            extra={
                "id": finding.id,
                "case": finding.case_code,
                "source": finding.source,
                "decision": finding.decision,
                "reasons": [reason.value for reason in finding.reasons],
            },
        )
        return self._write(write)

    def overlay(self, id_: str) -> None:
        """Put the heat map of a finding, told long ago perhaps, into the outbox.

        Raises:
            BadInputError: there is none.
        """
        rows = self._database.read(
            "SELECT heat FROM picture JOIN finding USING (seq) WHERE id = ? AND heat IS NOT NULL", (id_,)
        )
        if not rows:
            raise BadInputError("id: no heat map is kept of such a finding")
        self._write(lambda connection: self._add_overlay(connection, id_, rows[0][0]))

    def _add_overlay(self, connection: sqlite3.Connection, id_: str, heat: bytes) -> int:
        outbox.add(connection, "overlay", f"overlay/{id_}", self._topics.overlay(id_), heat, self._caps)
        return 0

    def close_studies(self, silence_s: float) -> None:
        """Tell of each open study without a new finding for so long: an event ``study_closed``."""
        now = time.monotonic()
        for study in [study for study, heard in self._open.items() if now - heard >= silence_s]:
            del self._open[study]
            self._write(partial(self._close, study=study))

    def _close(self, connection: sqlite3.Connection, study: str) -> int:
        told = studies.close(connection, study)
        if told:
            message = f"case {told['case_code']} is complete, or has been silent for a while"
            event = self.event("info", "study_closed", message, told)
            self._add_event(connection, event)
            _log_event(event)
        return 0

    def seen(self, marks: Iterable[str]) -> None:
        """Mark as seen, after all that was recorded before."""
        kept = tuple(marks)

        def write(connection: sqlite3.Connection) -> int:
            for key in kept:
                store.mark(connection, key)
            return 0

        self._write(write)

    def event(
        self, severity: Severity, code: str, message: str, data: Mapping[str, Scalar] | None = None
    ) -> Event:
        """An Event of now, to be kept with a finding."""
        return Event(
            id=uuid.uuid4().hex,
            stamp=self._clock.stamp(),
            severity=severity,
            code=code,
            message=message[:1000],
            data=dict(data or {}),
        )

    def tell(
        self, severity: Severity, code: str, message: str, data: Mapping[str, Scalar] | None = None
    ) -> None:
        """Log an Event of now and keep it for the broker."""
        event = self.event(severity, code, message, data)
        _log_event(event)

        def write(connection: sqlite3.Connection) -> int:
            self._add_event(connection, event)
            return 0

        self._write(write)

    def set_aside(self, kind: outbox.Kind, id_: str, size: int, largest: int) -> None:
        """Keep a message that the broker never takes, and say so; see :func:`edge.agent.outbox.set_aside`."""
        limit = f"more than {largest} bytes" if largest else "something so large"
        message = f"the broker does not take {limit}: a message of {size} bytes is kept here"
        event = self.event("error", "message_set_aside", message, {"kind": kind, "id": id_, "bytes": size})
        _log_event(event)

        def write(connection: sqlite3.Connection) -> int:
            # An event that is too large is told by none that would be too large again.
            if outbox.set_aside(connection, id_, largest) and kind != "event":
                self._add_event(connection, event)
            return 0

        self._write(write)

    def trim(self, *, by_age: bool) -> None:
        """Tell how many messages the outbox's caps have dropped; first drop those that are too old."""

        def write(connection: sqlite3.Connection) -> int:
            if by_age:
                outbox.drop_old(connection, self._caps)
            dropped = outbox.untold_drops(connection)
            if dropped:
                said = ", ".join(f"{count} {kind}s" for kind, count in sorted(dropped.items()))
                event = self.event(
                    "warning", "messages_dropped", f"not told for lack of room: {said}", dropped
                )
                self._add_event(connection, event)
                outbox.drops_are_told(connection)
                _log_event(event)
            return 0

        self._write(write)

    def settle(self, everything: bool = False) -> int:
        """Hear how the commits went: how many findings are newly on the disk.

        Raises:
            ScanwrightError: the database has stopped.
        """
        settled = 0
        while self._writing and (everything or self._writing[0].done() or len(self._writing) > _AHEAD):
            settled += self._writing.popleft().result()
        return settled

    def _write(self, action: Callable[[sqlite3.Connection], int]) -> Future[int]:
        future = self._database.write(action)
        self._writing.append(future)
        return future

    def _add_event(self, connection: sqlite3.Connection, event: Event) -> None:
        payload = event.model_dump_json().encode()
        outbox.add(connection, "event", event.id, self._topics.event, payload, self._caps)


def _log_event(event: Event) -> None:
    log.log(_LEVELS[event.severity], event.message, extra={"code": event.code, "data": event.data})
