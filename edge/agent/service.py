"""The agent: frames from its sources, through its models, into the database, and out to broker and screen."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from edge import __version__
from edge.agent.audit import Audit
from edge.agent.broker import broker_of
from edge.agent.cases import Cases
from edge.agent.clock import Clock
from edge.agent.commands import Commands, Handler, InvalidCommandError, Scalar
from edge.agent.config import AgentConfig, CaptureSource
from edge.agent.database import Database
from edge.agent.defects import defects_stop
from edge.agent.diagnostics import Diagnostics
from edge.agent.feeds import Feeds
from edge.agent.health import Counters, measure
from edge.agent.identity import Identity, device_secret
from edge.agent.inputs import check_source
from edge.agent.intake import Intake
from edge.agent.metered import meter_of
from edge.agent.model import Refs, load_models
from edge.agent.notify import Notifier
from edge.agent.observations import Observations
from edge.agent.originals import Originals
from edge.agent.outbox import Outbox
from edge.agent.power import Power
from edge.agent.quarantine import Quarantine
from edge.agent.recorder import Recorder
from edge.agent.remote import Remote
from edge.agent.report import Reporter
from edge.agent.room import NoRoomError, Room
from edge.agent.sender import Sender
from edge.agent.settings import SettingsFile, applied
from edge.agent.spool import Spool
from edge.agent.startup import say_what_is_used
from edge.agent.state import CASE_KEY, DATABASE, lock_state
from edge.agent.store import Store
from edge.agent.telling import Telling
from edge.agent.vault import Vault
from edge.agent.verdicts import Verdicts
from edge.agent.watch import Watch, time_floor
from edge.errors import BadInputError
from edge.mqtt.connection import Connection
from edge.mqtt.discovery import discovery, discovery_topic
from edge.mqtt.payloads import Birth, Health, Severity
from edge.mqtt.topics import Topics
from edge.sources.base import Source

__all__ = ["Agent", "Lasting"]

log = logging.getLogger(__name__)

_LOOK_S = 0.2  # how soon a stop is noticed
_FLUSH_S = 5.0  # for what is to be told, when stopping


@dataclass
class Lasting:
    """What outlives a reload: the sources, what was counted, and the wish for a reload. ``again``: the agent
    to come follows one that ended for a reload. ``path``: the configuration's file."""

    feeds: Feeds = field(default_factory=Feeds)
    counters: Counters = field(default_factory=Counters)
    reload: threading.Event = field(default_factory=threading.Event)
    again: bool = False
    path: Path | None = None


class Agent:
    """The service of one cart. ``config`` (with the settings over it), ``store`` and ``screen`` (None if not
    configured) are public."""

    def __init__(
        self, config: AgentConfig, sources: Sequence[Source] | None = None, lasting: Lasting | None = None
    ) -> None:
        """Take the state folder and load the bundles; ``sources`` stand in for the configured ones.

        Raises:
            BadInputError: something the configuration names cannot be used.
            ScanwrightError: another agent has the state folder, the interpreter fails, or a port is taken.
        """
        self._sources = sources
        self._lasting = lasting or Lasting()
        self._counters = self._lasting.counters
        floor = time_floor(config)
        broker = replace(broker_of(config.mqtt), floor=floor)
        self._clock = Clock(floor=floor)
        self._systemd = Notifier()
        self._topics = Topics(config.site, config.device)
        self._started = self._clock.now()
        self._spent = False
        with ExitStack() as stack:
            stack.enter_context(lock_state(config.state))
            self._settings = SettingsFile(config.state)
            interrupted = self._settings.trial and not self._lasting.again
            if interrupted:  # the agent ended before they were confirmed
                self._settings.revert()
            given, config = config, applied(config, self._settings.current)
            self.config = self._config = config
            self._identity = Identity(device_secret(config.state / "secret"))
            self._database = Database(config.state / DATABASE)
            stack.callback(self._database.close)
            self.store, self._outbox = Store(self._database), Outbox(self._database)
            vault = Vault(device_secret(config.state / CASE_KEY, "to lose what it sealed"))
            self._recorder = Recorder(self._database, self._topics, self._clock, config.outbox)
            self._audit = Audit(self._database, self._clock)
            tls = config.mqtt.tls
            self._watch = Watch(self._database, self._recorder, self._audit, self._clock, floor, tls)
            self._power = Power(self._recorder)
            self._meter = meter_of(self._database, self._clock, config.mqtt.metered_bytes_a_day)
            self._updates = None
            if config.update is not None:
                from edge.agent.updates import Updates

                self._updates = Updates(
                    config,
                    config.update,
                    self._lasting.path,
                    self._recorder,
                    self._audit,
                    self._clock,
                    self._meter,
                    count=not self._lasting.again,
                )
            self._models = load_models(config)
            self._room = Room(config.state, config.min_free_mb, self._recorder)
            cases = Cases(self._database, vault, self._identity)
            spool = Spool(
                config.state / "spool",
                self._database,
                vault,
                self._identity,
                config.spool,
                forwards=config.pacs is not None,
                least_mb=config.min_free_mb,
            )
            self._originals = Originals(cases, spool, self._identity, self._recorder)
            self._outgoing: list[Sender] = []
            if config.pacs is not None:
                from edge.agent.dicom_out import outgoing

                bundles = Refs(self._models, self._updates.former if self._updates else ())
                self._outgoing = outgoing(
                    config, config.pacs, self._database, spool, cases, self._identity, self._recorder, bundles
                )
            for source in config.sources if sources is None else ():
                check_source(source)
            tell_s = {one.name: one.tell_s for one in config.sources if isinstance(one, CaptureSource)}
            telling = Telling(self._recorder, tell_s)
            self._observations = Observations(
                self._recorder, config.study_silence_s, about_to_name=telling.tell
            )
            self._intake = Intake(
                self._models,
                self.store,
                self._identity,
                Reporter(config, self._identity, self._clock),
                self._recorder,
                telling,
                self._observations,
                self._originals,
                Quarantine(config.state / "quarantine", vault),
                self._counters,
                self._clock,
                *([self._updates.saw] if self._updates else []),
            )
            reload = self._lasting.reload
            self._remote = Remote(given, self._settings, self._models, self._recorder, self._audit, reload)
            if interrupted:
                self._remote.tell_reverted("the agent ended before they were confirmed", "warning")
            handlers: dict[str, Handler] = {
                "ping": lambda _: {},
                "status": lambda _: self._status(),
                "overlay": self._overlay,
            }
            prefix, introduction = config.mqtt.discovery_prefix, {}
            if prefix is not None:
                said = discovery(self._topics, __version__, config.target, config.health_s)
                introduction[discovery_topic(prefix, self._topics)] = said
            self._courier = None
            if config.courier is not None:
                from edge.agent.courier import courier_of

                parts = (self._database, self._audit, self._clock, self._recorder)
                self._courier = courier_of(config, config.courier, *parts, self._state, self._updates)
                self._outgoing.append(self._courier)
            self._connection = Connection(
                broker,
                self._topics,
                self._outbox,
                receipts=config.mqtt.receipts,
                birth=self._birth,
                command=self._command,
                changed=self._broker_changed,
                refused=self._recorder.set_aside,
                meter=self._meter,
                introduction=introduction,
            )
            self._database.watch(self._connection.wake)
            self.screen = None
            if (screen := config.screen) is not None:
                from edge.agent.screen import ScreenServer

                self.screen = ScreenServer(
                    self.store,
                    config,
                    screen,
                    Refs(self._models),
                    lambda: self._connection.online,
                    cases,
                    self.health,
                    self.trouble,
                    lambda: self._courier.stick if self._courier else None,
                )
            show = self.screen.identify if self.screen else None
            diagnostics = Diagnostics(config, self._lasting.feeds, show, lambda: self._connection.largest)
            handlers |= self._remote.handlers() | diagnostics.handlers() | Verdicts(self._database).handlers()
            handlers |= self._updates.handlers() if self._updates else {}
            self._commands = Commands(self._database, self._clock, handlers)
            self._held = stack.pop_all()

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` or the lasting ``reload`` is set; then finish the frame in hand, tell what
        waits, and go offline. After a reload the sources are still at work, for the next agent.

        Raises:
            ScanwrightError: the agent cannot go on. What it had decided is safe and told at the next start.
        """
        with defects_stop(stop), self._held:
            self._run(stop)
        log.info("stopped")

    def say(self, severity: Severity, code: str, message: str) -> None:
        """Tell an event."""
        self._recorder.tell(severity, code, message)

    def _run(self, stop: threading.Event) -> None:
        feeds = self._lasting.feeds
        say_what_is_used(self._config, self._models, self._audit, self._recorder)
        self._connection.start()
        for sender in self._outgoing:
            sender.start()
        if self.screen:
            self.screen.start()
            log.info("screen", extra={"url": self.screen.url})
        feeds.attach(lambda key: self.store.seen(self._identity.mark(key)))
        if self._sources is None:
            feeds.follow(self._config)
        else:
            feeds.run(self._sources)
        if self._updates:
            self._updates.start(self._models, lambda: self._connection.say(self._topics.birth, self._birth()))
        self._systemd.ready()
        if not all(isinstance(one, CaptureSource) for one in self._config.sources):
            import edge.imaging.patient_header  # noqa: F401  large: while the sources start
        self._lasting.again = False
        try:
            self._work(stop)
            self._lasting.again = not stop.is_set()
        finally:
            if self._lasting.again:
                self._systemd.reloading()
                feeds.detach()
            else:
                self._systemd.stopping()
                stop.set()
                feeds.stop()
            if self._updates:
                self._updates.stop()
            for sender in self._outgoing:
                sender.stop()
            self._connection.stop(_FLUSH_S)
            if self.screen:
                self.screen.stop()
        self._audit.add("reload" if self._lasting.again else "stop", {})

    def _work(self, stop: threading.Event) -> None:
        next_health = time.monotonic()
        while not (stop.is_set() or self._lasting.reload.is_set()):
            self._take(stop)
            if self._database.hung_s() < self._systemd.patience_s / 2:
                self._systemd.feed()
            self._recorder.close_studies(self._config.study_silence_s)
            self._observations.settle()
            self._counters.findings += self._recorder.settle()
            self._watch.look()
            self._power.look()
            self._remote.look()
            if self._updates and self._updates.look():
                stop.set()  # systemd starts the launcher, and that the other agent
            self._look_at_meter()
            if time.monotonic() >= next_health:
                next_health = time.monotonic() + self._config.health_s
                self._connection.say(self._topics.health, self.health().model_dump_json().encode())
                if not self._database.failing:
                    self._tidy()
        self._observations.settle(everything=True)
        self._counters.findings += self._recorder.settle(everything=True)

    def _tidy(self) -> None:
        trusted = self._clock.trusted()
        self._recorder.trim(by_age=trusted)
        if trusted:
            self.store.purge(self._config.keep_days, self._audit)
            self._originals.purge(self._config.keep_days)
        self._database.shrink()

    def _look_at_meter(self) -> None:
        spent = self._meter.spent
        if spent and not self._spent:
            cap = self._config.mqtt.metered_bytes_a_day
            message = f"the link has carried nearly its {cap} bytes of today: findings wait for tomorrow"
            self.say("warning", "metered_link_spent", message)
        self._spent = spent

    def _take(self, stop: threading.Event) -> None:
        """Take the next item, if there is one and if what comes of it can be kept."""
        if self._database.failing or not self._room.enough():
            stop.wait(_LOOK_S)
        elif (item := self._lasting.feeds.next(_LOOK_S)) is not None:
            try:
                self._intake.take(item)
            except NoRoomError as error:
                self._room.refused(error)
            else:
                self._lasting.feeds.taken()

    def _broker_changed(self, online: bool, why: str) -> None:
        where = f"{self._config.mqtt.host}:{self._config.mqtt.port}"
        if online:
            log.info("connected to the broker", extra={"broker": where})
        else:
            message = f"broker {where} is not there ({why}); findings are kept and told later"
            self._recorder.tell("warning", "broker_lost", message)

    def _birth(self) -> bytes:
        birth = Birth(
            site=self._config.site,
            device=self._config.device,
            stamp=self._clock.stamp(),
            agent_version=__version__,
            target=self._config.target,
            interpreter=self._models[0].engine,
            bundles=tuple(model.ref for model in self._models),
            started=self._started,
            settings_revision=self._settings.revision,
            settings_trial=self._settings.trial,
            slots=self._updates.status() if self._updates else (),
        )
        return birth.model_dump_json().encode()

    def _state(self) -> list[tuple[str, bytes]]:
        return [("birth", self._birth()), ("health", self.health().model_dump_json().encode())]

    def health(self) -> Health:
        """How the device is now; from any thread."""
        health = measure(self._clock.stamp(), self._counters, self._outbox, self._config.state)
        return health.model_copy(
            update={
                "certificate_days": self._watch.certificate_days(),
                "metered_bytes": None if self._meter.cap is None else self._meter.used,
                "refusing": self.trouble() == "disk",
                "slots": self._updates.status() if self._updates else (),
            }
        )

    def trouble(self) -> Literal["disk", "metered"] | None:
        """What a person at the cart has to know: no image is taken, or nothing is told until tomorrow."""
        if self._room.refusing or self._database.failing:
            return "disk"
        return "metered" if self._spent else None

    def _status(self) -> dict[str, Scalar]:
        """The Health, without its stamp, and what the agent is."""
        health = self.health().model_dump(
            mode="json", exclude={"schema_version", "stamp", "throttling", "slots"}
        )
        bundles = ", ".join(f"{model.ref.name} {model.ref.version}" for model in self._models)
        return {"agent_version": __version__, "bundles": bundles, **health}

    def _overlay(self, arguments: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The command that asks for the heat map of a finding."""
        if self._config.overlays == "never":
            raise BadInputError("this device publishes no overlays; its configuration says overlays: never")
        self._recorder.overlay(str(arguments.get("id", "")))
        return {}

    def _command(self, name: str, payload: bytes) -> bytes | None:
        try:
            response = self._commands.answer(name, payload)
        except InvalidCommandError as error:
            self._recorder.tell("warning", "command_invalid", f"command '{name[:64]}': {error}")
            return None
        said: dict[str, Scalar] = {"name_of_command": name[:64], "ok": response.ok, "error": response.error}
        self._audit.add("command", said | {"correlation_id": response.correlation_id})
        log.info("command", extra=said)
        return response.model_dump_json().encode()
