"""Getting releases into slots: from the first place that has them, and the first bundle of an empty slot."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from edge.agent.clock import Clock
from edge.agent.config import AgentConfig, SlotConfig, UpdateConfig
from edge.agent.state import SLOTS
from edge.errors import BadInputError, ScanwrightError
from edge.mqtt.meter import Meter
from edge.update.launch import State, version_of
from edge.update.release import Device, RefusedError, Release, choose, number
from edge.update.slots import Slot

__all__ = ["TRANSIENT", "Damage", "Fetcher", "metered", "open_slots"]

log = logging.getLogger(__name__)

TRANSIENT = ("unreachable", "metered", "no_room", "stopped")
"""Codes of what may go well later."""


@dataclass(frozen=True)
class Damage:
    """A slot whose contents were not what was written there, and what is used instead."""

    slot: str
    version: str
    instead: str


class Fetcher:
    """Takes releases from the configured places into slots."""

    def __init__(
        self, config: AgentConfig, update: UpdateConfig, clock: Clock, charge: Callable[[int], None]
    ) -> None:
        """``charge`` hears of bytes before they come over a link, and may refuse by an error.

        Raises:
            BadInputError: the pinned root or a certificate cannot be read.
        """
        from edge.update.client import Trust
        from edge.update.fetch import secured

        self._device = Device(site=config.site, device=config.device, target=config.target)
        self._places, tls = update.repositories, update.tls
        try:
            context = secured(tls.ca, tls.certificate, tls.key) if tls else None
        except (OSError, ssl.SSLError) as error:
            raise BadInputError(f"update.tls: {error.strerror or error}") from error
        self._trust = Trust(
            config.state / "update", update.root, lambda: max(clock.now(), clock.floor()), context, charge
        )

    def fetch(
        self, slot: Slot, version: str | None, *, newer_than: str | None = None, anew: bool = False
    ) -> str:
        """Put a version (None: the newest) into a slot, complete; its name. ``anew``: though it is used.

        Raises:
            RefusedError: it is in use already, not newer than what it has to be, not to be believed, not for
                this device, or not to be had.
        """
        refusals: list[RefusedError] = []
        chosen = version
        for place in self._places:
            try:
                repository = self._trust.repository(place)
                release = choose(repository.releases(), self._device, slot.name, version)
                chosen = release.custom.version
                if not anew:
                    _check_use(slot, release, newer_than)
                return slot.install(release, partial(repository.download, release))
            except RefusedError as error:
                refusals.append(error)
                if error.code in ("metered", "stopped", "in_use", "no_room"):
                    break
        # Of several places one that is old says least, and one that is not there may come back.
        rank = {"rolled_back": 0, "not_found": 1, "unreachable": 2}
        worst = max(refusals, key=lambda refusal: rank.get(refusal.code, 3))
        raise RefusedError(worst.code, "; ".join(str(refusal) for refusal in refusals), chosen)

    def fill(self, slot: Slot) -> None:
        """Put the newest version into an empty slot, and use it.

        Raises:
            ScanwrightError: there is none to be had.
        """
        try:
            name = self.fetch(slot, None, anew=True)
        except RefusedError as error:
            raise ScanwrightError(f"slot '{slot.name}' is empty, and cannot be filled: {error}") from error
        slot.put(State(current=name))


def open_slots(config: AgentConfig, fetcher: Fetcher, *, count: bool) -> tuple[dict[str, Slot], list[Damage]]:
    """The bundles' slots, each with something whole to use; what was damaged and replaced.

    ``count``: this start is one of those that a bundle on trial has.

    Raises:
        ScanwrightError: one is empty, or has nothing whole, and the repository cannot be had.
    """
    slots, damages = {}, []
    for bundle in config.bundles:
        if not isinstance(bundle, SlotConfig):
            continue
        slot = slots[bundle.slot] = Slot(config.state / SLOTS, bundle.slot)
        if count:
            try:
                slot.put(slot.state.start())
            except ScanwrightError as error:  # a full disk must not keep the agent from starting
                log.warning("a start cannot be counted", extra={"slot": slot.name, "reason": str(error)})
        if slot.state.trial and not slot.whole(slot.state.trial):
            slot.put(slot.state.fail("damaged"))
        used = slot.state.current
        if used and not slot.whole(used):
            previous = slot.state.previous
            if previous and slot.whole(previous):
                slot.put(
                    slot.state.back("damaged")
                    if not slot.state.trial
                    else replace(slot.state, current=previous)
                )
            else:
                fetcher.fill(slot)
            damages.append(Damage(slot.name, version_of(used), version_of(slot.state.current or "")))
        elif used is None and slot.state.trial is None:
            fetcher.fill(slot)
    return slots, damages


def metered(meter: Meter, stopped: Callable[[], bool]) -> Callable[[int], None]:
    """What charges a metered link, and ends a download when the agent stops."""

    def charge(count: int) -> None:
        if stopped():
            raise RefusedError("stopped", "the agent stops")
        if not meter.allows("update", count):
            raise RefusedError("metered", "the link has carried what it may for updates today")
        meter.add(count)

    return charge


def _check_use(slot: Slot, release: Release, newer_than: str | None) -> None:
    version, used = release.custom.version, slot.state.used
    if used is not None and used == f"{version}-{release.sha256[:12]}":
        raise RefusedError("in_use", f"{slot.name} {version}: is in use already")
    if newer_than is None:
        return
    last = slot.state.result
    if number(version) <= number(newer_than):
        raise RefusedError("in_use", f"{slot.name} {version}: is not newer than {newer_than}")
    if last and last.what != "committed" and last.version == version:
        raise RefusedError("in_use", f"{slot.name} {version}: failed before; a command tries it again")
