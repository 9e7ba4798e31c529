"""Updates while the agent works: fetched and proven in a thread of their own, swapped between two frames.

The slots' states change in the agent's loop, and where a command is taken, under one lock. What a kill
interrupts is taken up again: a wish stays in its slot's state until it is fulfilled or refused.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from edge import __version__
from edge.agent.audit import Audit
from edge.agent.clock import Clock
from edge.agent.commands import Handler, Scalar
from edge.agent.config import AGENT_SLOT, AgentConfig, UpdateConfig
from edge.agent.fetching import TRANSIENT, Fetcher, metered, open_slots
from edge.agent.model import Model, check_policy, load_version
from edge.agent.proof import Proof, Recent, Window, gives_result, shadow, try_agent
from edge.agent.recorder import Recorder
from edge.agent.state import SLOTS
from edge.agent.update_events import UpdateEvents
from edge.bundle.errors import GoldenError
from edge.errors import BadInputError, ScanwrightError
from edge.imaging.frame import Frame
from edge.mqtt.meter import Meter
from edge.mqtt.payloads import BundleRef, Finding, SlotStatus
from edge.update.launch import NEWEST, TRIES, version_of
from edge.update.package import PROGRAM
from edge.update.release import RefusedError
from edge.update.slots import Slot

__all__ = ["Updates"]

log = logging.getLogger(__name__)

_RETRY_S = (30.0, 900.0)
_LEAVE_S = 5.0  # for a job to end when the agent stops
_VERSION = r"\d{1,9}\.\d{1,9}\.\d{1,9}"
_ALONE = threading.Lock()  # of all agents of this process, across reloads


@dataclass(frozen=True)
class _Ready:
    """A version that is to be used next: put on trial, or gone back to."""

    slot: Slot
    version: str
    model: Model | None  # None: the agent
    proof: Proof
    back: bool = False


@dataclass(frozen=True)
class _Refused:
    slot: Slot
    version: str
    error: RefusedError


class Updates:
    """Keeps the slots of one agent current.

    Swaps happen within :meth:`look`: there the model of a bundle is exchanged in ``models``, which everybody
    shares.
    """

    def __init__(
        self,
        config: AgentConfig,
        update: UpdateConfig,
        path: Path | None,
        recorder: Recorder,
        audit: Audit,
        clock: Clock,
        meter: Meter,
        *,
        count: bool,
    ) -> None:
        """Open the slots, fill those that are empty, and put aside what is damaged.

        ``path`` is the configuration's file, which a new agent is tried with. ``count``: this start is one of
        those that a bundle on trial has. ``former``, public: bundles that were replaced since.

        Raises:
            ScanwrightError: a slot has nothing whole, and the repository cannot be had.
        """
        self._config, self._limits, self._path = config, update, path
        self._events, self._audit = UpdateEvents(recorder, audit), audit
        self._stop = threading.Event()
        self._fetcher = Fetcher(config, update, clock, metered(meter, self._stop.is_set))
        self._slots, self._damages = open_slots(config, self._fetcher, count=count)
        if update.agent:
            self._slots[AGENT_SLOT] = Slot(config.state / SLOTS, AGENT_SLOT)
        self._models: list[Model] = []
        self.former: list[BundleRef] = []
        self._changed: Callable[[], None] = lambda: None
        self._recent = Recent(update.shadow_frames)
        self._windows: dict[str, Window] = {}
        self._before: dict[str, Model] = {}
        self._lock = threading.Lock()
        self._job: threading.Thread | None = None
        self._busy: tuple[str, str, Literal["fetching", "proving"]] | None = None
        self._done: _Ready | _Refused | None = None
        self._retry_at, self._retry_s = 0.0, _RETRY_S[0]
        self._waiting: set[str] = set()
        self._next_look = 0.0
        self._to_look: list[Slot] = []

    def start(self, models: list[Model], changed: Callable[[], None]) -> None:
        """Tell what became of updates while no agent could, and watch what is on trial.

        In ``models`` bundles are exchanged; ``changed`` is called when the slots' status has changed.

        Raises:
            ScanwrightError: the state folder cannot be written, or the bundle before is not to be used.
        """
        self._models, self._changed = models, changed
        for damage in self._damages:
            self._events.damage(damage)
        agent = self._slots.get(AGENT_SLOT)
        if agent and agent.state.trial and version_of(agent.state.trial) != __version__:
            agent.put(agent.state.fail("unusable"))  # the launcher could not start it
        for slot in self._slots.values():
            self._events.result(slot, self._running(slot))
            if slot.state.trial:
                self._windows[slot.name] = Window(self._limits, (), time.monotonic())
                if slot.name != AGENT_SLOT and slot.state.current:
                    self._before[slot.name] = load_version(self._config, slot.name, slot.state.current)

    def stop(self) -> None:
        """End the job that is under way; it is begun again at the next start."""
        self._stop.set()
        if self._job:
            self._job.join(_LEAVE_S)

    def handlers(self) -> dict[str, Handler]:
        """The commands, by name."""
        return {"update": self._update, "rollback": self._rollback}

    def saw(self, frame: Frame, finding: Finding) -> None:
        """Hear of a frame and what was found, from the agent's loop."""
        name = finding.bundle.name
        if window := self._windows.get(name):
            before = self._before.get(name) if finding.decision == "no_result" else None
            window.add(finding, withheld=before is not None and gives_result(before, frame))
        else:
            self._recent.add(frame, finding)

    def status(self) -> tuple[SlotStatus, ...]:
        """How the slots are; from any thread."""
        return tuple(self._status(slot) for slot in self._slots.values())

    def look(self) -> bool:
        """Do what is due, between two frames; whether the agent has to end, so that another one starts."""
        with self._lock:
            if self._done and not (self._job and self._job.is_alive()):
                done, self._done, self._busy = self._done, None, None
                if self._take(done):
                    return True
            for name in list(self._windows):
                self._judge(self._slots[name])
            if self._busy is None:
                self._begin()
        return False

    def _update(self, arguments: Mapping[str, Scalar]) -> dict[str, Scalar]:
        slot, version = self._named(arguments), arguments.get("version")
        if version is not None and not (isinstance(version, str) and re.fullmatch(_VERSION, version)):
            raise BadInputError("version: give MAJOR.MINOR.PATCH, or leave it out for the newest")
        with self._lock:
            self._refuse_while_busy()
            if slot.state.trial:
                raise BadInputError(f"name: '{slot.name}' has a version on trial; roll it back first")
            slot.put(slot.state.want(version))
            self._retry_at, self._retry_s = 0.0, _RETRY_S[0]
            self._waiting.discard(slot.name)
        self._audit.add("update", {"slot": slot.name, "version": version})
        return {"name": slot.name, "version": version, "state": "accepted"}

    def _rollback(self, arguments: Mapping[str, Scalar]) -> dict[str, Scalar]:
        slot = self._named(arguments)
        with self._lock:
            self._refuse_while_busy()
            state = slot.state
            to = state.current if state.trial else state.previous
            if to is None and (slot.name != AGENT_SLOT or state.used is None):
                raise BadInputError(f"name: slot '{slot.name}' has no previous version to go back to")
            self._busy = (slot.name, version_of(to or ""), "proving")
        try:
            bundle = to if slot.name != AGENT_SLOT else None
            model = bundle and load_version(self._config, slot.name, bundle)
        except ScanwrightError:
            self._busy = None
            raise
        self._done = _Ready(slot, to or "", model or None, Proof(0), back=True)
        self._audit.add("rollback", {"slot": slot.name})
        return {"name": slot.name, "version": version_of(to) if to else None, "state": "accepted"}

    def _named(self, arguments: Mapping[str, Scalar]) -> Slot:
        name = str(arguments.get("name", ""))
        if name not in self._slots:
            known = ", ".join(sorted(self._slots)) or "none"
            raise BadInputError(f"name: '{name[:64]}' is no slot of this device; it has: {known}")
        return self._slots[name]

    def _refuse_while_busy(self) -> None:
        if self._busy:
            raise BadInputError(f"name: '{self._busy[0]}' is being updated ({self._busy[2]}); try later")

    def _begin(self) -> None:
        """Start the next job, if there is one."""
        now = time.monotonic()
        if self._limits.automatic and now >= self._next_look and _within(self._limits.window, datetime.now()):
            self._next_look = now + self._limits.look_s
            self._to_look = [s for s in self._slots.values() if not (s.state.wanted or s.state.trial)]
        if self._to_look:
            self._run(self._to_look.pop(), None, automatic=True)
            return
        for slot in self._slots.values():
            if slot.state.wanted and slot.name not in self._windows and now >= self._retry_at:
                wanted = slot.state.wanted
                self._run(slot, None if wanted == NEWEST else wanted, automatic=False)
                return

    def _run(self, slot: Slot, version: str | None, *, automatic: bool) -> None:
        if not automatic and slot.name not in self._waiting:
            self._events.started(slot.name, version)
        self._busy = (slot.name, version or "", "fetching")
        self._changed()
        self._job = threading.Thread(
            target=self._work, args=(slot, version, automatic), name="update", daemon=True
        )
        self._job.start()

    def _work(self, slot: Slot, wanted: str | None, automatic: bool) -> None:
        """Fetch and prove: all that takes long, and changes nothing."""
        with _ALONE:
            version = wanted or ""
            try:
                newer = self._running(slot) if automatic else None
                name = self._fetcher.fetch(slot, wanted, newer_than=newer)
                version = version_of(name)
                self._busy = (slot.name, version, "proving")
                self._changed()
                with self._lock:
                    if slot.state.tries >= TRIES:
                        raise RefusedError("crashed", f"the agent ended {TRIES} times while it was proven")
                    slot.put(slot.state.prove(version))
                self._done = self._prove(slot, name)
            except RefusedError as error:
                self._done = _Refused(slot, error.version or version, error)
            except ScanwrightError as error:
                self._done = _Refused(slot, version, RefusedError("unusable", str(error)))
            except Exception as error:  # whatever a release brings must not end the agent
                log.exception("an update has a defect, or shows one")
                said = f"unexpected {type(error).__name__}"
                self._done = _Refused(slot, version, RefusedError("unusable", said))

    def _prove(self, slot: Slot, name: str) -> _Ready:
        if slot.name == AGENT_SLOT:
            try_agent(slot.path(name) / PROGRAM, self._path)
            return _Ready(slot, name, None, Proof(0))
        try:
            model = load_version(self._config, slot.name, name)
        except GoldenError as error:
            raise RefusedError("golden", str(error)) from error
        others = [one for one in self._models if one.ref.name != slot.name]
        check_policy([model, *others], self._config.policy)
        proof = shadow(model, self._recent.of(slot.name), self._limits, self._go_on)
        return _Ready(slot, name, model, proof)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise RefusedError("stopped", "the agent stops")

    def _take(self, done: _Ready | _Refused) -> bool:
        if isinstance(done, _Refused):
            self._take_refusal(done)
            self._changed()
            return False
        slot, before = done.slot, done.slot.state.used
        began = time.perf_counter()
        try:
            slot.put(slot.state.back("command") if done.back else slot.state.begin(done.version))
        except ScanwrightError as error:
            self._take_refusal(_Refused(slot, version_of(done.version), RefusedError("no_room", str(error))))
            return False
        if done.back:
            self._windows.pop(slot.name, None)
            self._before.pop(slot.name, None)
        if done.model is None:
            if not done.back:
                self._events.trial(slot.name, done.version, before, done.proof, None)
            return True
        old = self._exchange(slot.name, done.model)
        pause_ms = (time.perf_counter() - began) * 1e3
        if done.back:
            self._events.result(slot, self._running(slot))
        else:
            self._before[slot.name] = old
            seen = self._recent.of(slot.name)
            self._windows[slot.name] = Window(self._limits, seen, time.monotonic())
            self._events.trial(slot.name, done.version, before, done.proof, pause_ms)
        self._changed()
        return False

    def _take_refusal(self, done: _Refused) -> None:
        slot, error = done.slot, done.error
        wanted = slot.state.wanted
        if error.code == "stopped" or (wanted is None and error.code in (*TRANSIENT, "in_use", "not_found")):
            return  # an automatic look that found nothing
        if error.code in TRANSIENT:
            self._retry_at = time.monotonic() + self._retry_s
            self._retry_s = min(2 * self._retry_s, _RETRY_S[1])
            if slot.name not in self._waiting:
                self._waiting.add(slot.name)
                self._events.waiting(slot.name, done.version or wanted, error)
            return
        self._waiting.discard(slot.name)
        before = slot.state.result
        try:
            slot.put(slot.state.refuse(done.version or _version(wanted), error.code).told())
        except ScanwrightError as full:
            log.warning("a refusal cannot be noted", extra={"slot": slot.name, "reason": str(full)})
            self._retry_at = time.monotonic() + _RETRY_S[1]
        if wanted is not None or slot.state.result != before:  # an automatic look finds the same each time
            self._events.refused(slot.name, done.version or wanted, error)

    def _judge(self, slot: Slot) -> None:
        """Commit what is on trial, or go back, when it is time."""
        why = None
        try:
            if not self._windows[slot.name].verdict(time.monotonic()):
                return
            state = slot.state.commit()
        except RefusedError as error:
            state, why = slot.state.fail(error.code), str(error)
            before = self._before.get(slot.name)
            if before and before not in self._models:
                self._exchange(slot.name, before)
        try:
            slot.put(state)
        except ScanwrightError as error:  # tried again at the next look
            log.warning("an update cannot be ended", extra={"slot": slot.name, "reason": str(error)})
            return
        self._before.pop(slot.name, None)
        del self._windows[slot.name]
        self._events.result(slot, self._running(slot), why)
        self._changed()

    def _exchange(self, name: str, model: Model) -> Model:
        index = next(i for i, one in enumerate(self._models) if one.ref.name == name)
        old, self._models[index] = self._models[index], model
        self.former.append(old.ref)
        return old

    def _running(self, slot: Slot) -> str | None:
        used = slot.state.used
        return __version__ if slot.name == AGENT_SLOT else used and version_of(used)

    def _status(self, slot: Slot) -> SlotStatus:
        state, busy = slot.state, self._busy
        pending = version_of(state.trial) if state.trial else None
        doing: Literal["idle", "fetching", "proving", "trial"] = "trial" if state.trial else "idle"
        if busy and busy[0] == slot.name and not state.trial:
            pending, doing = busy[1] or None, busy[2]
        result = state.result
        return SlotStatus(
            name=slot.name,
            version=self._running(slot),
            previous=version_of(state.previous) if state.previous else None,
            pending=pending,
            state=doing,
            result=result.what if result else None,
            result_version=result.version if result else None,
            reason=result.reason if result else None,
        )


def _version(wanted: str | None) -> str:
    return "0.0.0" if wanted in (None, NEWEST) else str(wanted)


def _within(window: str | None, now: datetime) -> bool:
    """Whether a time of day is within ``HH:MM-HH:MM``, which may go over midnight."""
    if window is None:
        return True
    begin, end = window.split("-")
    time_ = f"{now:%H:%M}"
    return begin <= time_ < end if begin <= end else time_ >= begin or time_ < end
