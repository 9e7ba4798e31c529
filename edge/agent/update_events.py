"""What is told of updates: events and entries of the audit log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

from edge.agent.audit import Audit
from edge.agent.commands import Scalar
from edge.agent.fetching import Damage
from edge.agent.proof import Proof
from edge.agent.recorder import Recorder
from edge.errors import ScanwrightError
from edge.update.launch import version_of
from edge.update.release import RefusedError
from edge.update.slots import Slot

__all__ = ["UpdateEvents"]

log = logging.getLogger(__name__)

Severity = Literal["info", "warning", "error"]


class UpdateEvents:
    """Tells by the recorder and keeps in the audit log."""

    def __init__(self, recorder: Recorder, audit: Audit) -> None:
        self._recorder, self._audit = recorder, audit

    def damage(self, found: Damage) -> None:
        """Tell that a slot was damaged."""
        said = f"slot '{found.slot}': {found.version} was damaged on the disk; {found.instead} is used"
        self._tell("error", "slot_damaged", said, found.slot, found.instead)

    def started(self, name: str, version: str | None) -> None:
        """Tell that an update was begun."""
        self._tell("info", "update_started", f"slot '{name}': is being updated", name, version)

    def waiting(self, name: str, version: str | None, error: RefusedError) -> None:
        """Tell that an update cannot be had now."""
        said = f"slot '{name}': {error}"
        self._tell("warning", "update_waiting", said, name, version, {"reason": error.code})

    def refused(self, name: str, version: str | None, error: RefusedError) -> None:
        """Tell that an update is not taken."""
        said = f"slot '{name}': {error}"
        self._tell("error", "update_refused", said, name, version, {"reason": error.code})

    def trial(
        self, name: str, version: str, before: str | None, proof: Proof, pause_ms: float | None
    ) -> None:
        """Tell that a version is in use, not committed; ``pause_ms``: for so long the loop stood still."""
        data: dict[str, Scalar] = {
            "from": version_of(before) if before else None,
            "frames": proof.frames,
            "agreement": proof.agreement,
            "slowdown": proof.slowdown,
            "pause_ms": None if pause_ms is None else round(pause_ms, 2),
        }
        said = f"slot '{name}': {version_of(version)} is in use, on trial"
        self._tell("info", "update_on_trial", said, name, version_of(version), data)

    def result(self, slot: Slot, used: str | None, why: str | None = None) -> None:
        """Tell what became of an update, once; ``used`` is the version that is used now."""
        result = slot.state.result
        if result is None or result.told or result.what == "refused":
            return
        if result.what == "committed":
            said = f"slot '{slot.name}': {result.version} has proven itself, and stays"
            self._tell("info", "update_committed", said, slot.name, result.version)
        else:
            reason = why or result.reason
            said = f"slot '{slot.name}': {result.version} is given up ({reason}); {used} is used again"
            severity: Severity = "info" if result.reason == "command" else "error"
            data = {"reason": result.reason, "used": used}
            self._tell(severity, "update_rolled_back", said, slot.name, result.version, data)
        try:
            slot.put(slot.state.told())
        except ScanwrightError as error:  # it will be told again
            log.warning("what was told cannot be noted", extra={"slot": slot.name, "reason": str(error)})

    def _tell(
        self,
        severity: Severity,
        code: str,
        message: str,
        name: str,
        version: str | None,
        data: Mapping[str, Scalar] | None = None,
    ) -> None:
        said: dict[str, Scalar] = {"name": name, "version": version, **(data or {})}
        self._audit.add(code, said)
        self._recorder.tell(severity, code, message, said)
