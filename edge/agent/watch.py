"""What is watched beside images: the clock, its steps and its floor, and the certificate's end."""

from __future__ import annotations

import logging

from edge.agent.audit import Audit
from edge.agent.certificates import Validity, due, validity
from edge.agent.clock import Clock, TimeFloor, note_offset
from edge.agent.config import AgentConfig, Tls
from edge.agent.database import Database
from edge.agent.recorder import Recorder
from edge.errors import BadInputError
from edge.mqtt.payloads import Severity

__all__ = ["Watch", "time_floor"]

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_STEP_S = 2.0  # a smaller jump between two looks is the time service at work
_STEADY_S = 600.0  # so long must the clock be trusted and go evenly before the floor follows it
_FLOOR_S = 3600.0
_CERTIFICATE_S = 3600.0


def time_floor(config: AgentConfig) -> TimeFloor:
    """The device's time floor.

    Raises:
        BadInputError: a configured certificate cannot be read.
    """
    tls = config.mqtt.tls
    return TimeFloor(config.state / "clock", *([validity(tls).since] if tls else []))


class Watch:
    """Looks at the clock and the certificate when asked to, and tells what changed."""

    def __init__(
        self,
        database: Database,
        recorder: Recorder,
        audit: Audit,
        clock: Clock,
        floor: TimeFloor,
        tls: Tls | None,
    ) -> None:
        self._database, self._recorder, self._audit = database, recorder, audit
        self._clock, self._floor, self._tls = clock, floor, tls
        self._offset_s = clock.offset_s()
        self._trusted = False
        self._steady_since = clock.monotonic_s()
        self._next_look = self._next_floor = self._next_certificate = float("-inf")
        self._until: Validity | None = None
        self._told: int | None = None
        self._said_behind = False

    def look(self) -> None:
        """Look, at most once a second."""
        now_s = self._clock.monotonic_s()
        if now_s < self._next_look:
            return
        self._next_look = now_s + _LOOK_S
        self._look_at_clock(now_s)
        if now_s >= self._next_certificate:
            self._next_certificate = now_s + _CERTIFICATE_S
            self._look_at_certificate()

    def certificate_days(self) -> float | None:
        """Days left, by a clock that is not below the floor; None without a certificate."""
        return self._until.days(max(self._clock.now(), self._floor())) if self._until else None

    def _look_at_clock(self, now_s: float) -> None:
        offset_s, trusted = self._clock.offset_s(), self._clock.trusted()
        step = offset_s - self._offset_s
        self._offset_s = offset_s
        stepped = abs(step) > _STEP_S
        if stepped:
            self._audit.add("clock_step", {"seconds": round(step, 3), "trusted": trusted})
            self._tell("info", "clock_stepped", f"the clock was moved by {step:+.0f} s", seconds=round(step))
        if trusted and (stepped or not self._trusted):
            note_offset(self._database, self._clock.stamp())
        if stepped or trusted is not self._trusted:
            self._steady_since = now_s
            self._next_certificate = now_s
        self._trusted = trusted
        behind = self._clock.behind()
        if behind and not self._said_behind:
            self._tell(
                "warning",
                "clock_behind",
                f"the clock says {self._clock.now():%Y-%m-%d}, but it is {self._floor():%Y-%m-%d} at least;"
                " set it, or let 'scanwright agent clock --set' do so at each start",
            )
        self._said_behind = behind
        if trusted and now_s - self._steady_since >= _STEADY_S and now_s >= self._next_floor:
            self._next_floor = now_s + _FLOOR_S
            try:
                self._floor.raise_to(self._clock.now())
            except OSError as error:
                log.warning("the last known time cannot be kept", extra={"error": error.strerror})

    def _look_at_certificate(self) -> None:
        if self._tls is None:
            return
        try:
            found = validity(self._tls)
        except BadInputError as error:
            log.warning("the certificate cannot be looked at", extra={"error": str(error)})
            return
        if found != self._until:
            self._until, self._told = found, None
        days = found.days(max(self._clock.now(), self._floor()))
        notice = due(days, self._told)
        if notice is None:
            return
        self._told = notice
        if notice == 0:
            self._tell(
                "error",
                "certificate_expired",
                f"the certificate for the broker ended on {found.until:%Y-%m-%d}; findings are kept until"
                " it is renewed",
            )
        else:
            self._tell(
                "warning",
                "certificate_expiring",
                f"the certificate for the broker ends on {found.until:%Y-%m-%d}; renew it with"
                " 'scanwright keys device --renew'",
                days=int(days),
            )

    def _tell(self, severity: Severity, code: str, message: str, **data: int) -> None:
        self._recorder.tell(severity, code, message, data)
