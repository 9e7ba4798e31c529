"""The agent: frames from its sources, through its models, into the database, and out to broker and screen."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING

from edge import __version__
from edge.agent.audit import Audit
from edge.agent.cases import Cases
from edge.agent.clock import Clock
from edge.agent.commands import Commands, InvalidCommandError, Scalar
from edge.agent.config import AgentConfig, CaptureSource, MqttConfig
from edge.agent.database import Database
from edge.agent.health import Counters, measure
from edge.agent.identity import Identity, device_secret
from edge.agent.intake import open_sources
from edge.agent.model import Model, covering
from edge.agent.notify import Notifier
from edge.agent.observations import Observations
from edge.agent.originals import Originals
from edge.agent.outbox import Outbox
from edge.agent.quarantine import Quarantine
from edge.agent.recorder import Recorder
from edge.agent.report import Reporter
from edge.agent.spool import Spool
from edge.agent.state import CASE_KEY, DATABASE, lock_state
from edge.agent.store import Store
from edge.agent.telling import Telling
from edge.agent.vault import Vault
from edge.agent.watch import Watch, time_floor
from edge.bundle.reasons import Reason
from edge.errors import BadInputError, ScanwrightError
from edge.imaging.frame import Frame
from edge.mqtt.broker import Broker
from edge.mqtt.connection import Connection
from edge.mqtt.payloads import Birth, Health
from edge.mqtt.topics import Topics
from edge.sources.base import Done, Failure, Item, Original, Source

if TYPE_CHECKING:
    from edge.agent.dicom_out import Outgoing

__all__ = ["Agent", "broker_of", "load_models"]

log = logging.getLogger(__name__)

_AHEAD = 2  # frames that wait for the model
_LOOK_S = 0.2  # how soon a stop is noticed
_FLUSH_S = 5.0  # for what is to be told, when stopping


class Agent:
    """The service of one cart. ``store`` and ``screen`` (None if not configured) are public."""

    def __init__(self, config: AgentConfig, sources: Sequence[Source] | None = None) -> None:
        """Take the state folder and load the bundles; ``sources`` stand in for the configured ones.

        Raises:
            BadInputError: something the configuration names cannot be used.
            ScanwrightError: another agent has the state folder, the interpreter fails, or a port is taken.
        """
        self._config = config
        floor = time_floor(config)
        broker = replace(broker_of(config.mqtt), floor=floor)
        self._clock = Clock(floor=floor)
        self._systemd = Notifier()
        self._topics = Topics(config.site, config.device)
        self._counters = Counters()
        self._started = self._clock.now()
        self._items: Queue[Item] = Queue(_AHEAD)
        self._failing: set[str] = set()
        self._defect: str | None = None
        with ExitStack() as stack:
            stack.enter_context(lock_state(config.state))
            self._identity = Identity(device_secret(config.state / "secret"))
            self._models = load_models(config)
            self._database = Database(config.state / DATABASE)
            stack.callback(self._database.close)
            self.store, self._outbox = Store(self._database), Outbox(self._database)
            vault = Vault(device_secret(config.state / CASE_KEY, "to lose what it sealed"))
            self._quarantine = Quarantine(config.state / "quarantine", vault)
            self._recorder = Recorder(self._database, self._topics, self._clock)
            self._audit = Audit(self._database, self._clock)
            tls = config.mqtt.tls
            self._watch = Watch(self._database, self._recorder, self._audit, self._clock, floor, tls)
            cases = Cases(self._database, vault, self._identity)
            spool = Spool(
                config.state / "spool",
                self._database,
                vault,
                self._identity,
                config.spool,
                forwards=config.pacs is not None,
            )
            self._originals = Originals(cases, spool, self._identity, self._recorder)
            self._outgoing: list[Outgoing] = []
            if config.pacs is not None:
                from edge.agent.dicom_out import outgoing

                bundles = [model.ref for model in self._models]
                self._outgoing = outgoing(
                    config, config.pacs, self._database, spool, cases, self._identity, self._recorder, bundles
                )
            tell_s = {one.name: one.tell_s for one in config.sources if isinstance(one, CaptureSource)}
            self._telling = Telling(self._recorder, tell_s)
            self._observations = Observations(
                self._recorder, config.study_silence_s, about_to_name=self._telling.tell
            )
            self._reporter = Reporter(config, self._identity, self._clock)
            self._commands = Commands(
                self._database,
                self._clock,
                {"ping": lambda _: {}, "status": lambda _: self._status(), "overlay": self._overlay},
            )
            self._connection = Connection(
                broker,
                self._topics,
                self._outbox,
                receipts=config.mqtt.receipts,
                birth=self._birth,
                command=self._command,
                changed=self._broker_changed,
            )
            self._database.watch(self._connection.wake)
            self._sources = list(open_sources(config, self._seen) if sources is None else sources)
            self.screen = None
            if (screen := config.screen) is not None:
                from edge.agent.screen import ScreenServer

                bundles = [model.ref for model in self._models]
                self.screen = ScreenServer(
                    self.store, config, screen, bundles, lambda: self._connection.online, cases, self.health
                )
            self._held = stack.pop_all()

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; then finish the frame in hand, tell what waits, and go offline.

        Raises:
            ScanwrightError: the agent cannot go on. What it had decided is safe and told at the next start.
        """
        hook, threading.excepthook = threading.excepthook, lambda args: self._thread_failed(args, stop)
        try:
            with self._held:
                self._run(stop)
        finally:
            threading.excepthook = hook
        if self._defect:
            raise ScanwrightError(self._defect)
        log.info("stopped")

    def _run(self, stop: threading.Event) -> None:
        self._say_what_is_used()
        self._connection.start()
        for sender in self._outgoing:
            sender.start()
        if self.screen:
            self.screen.start()
            log.info("screen", extra={"url": self.screen.url})
        feeders = [
            threading.Thread(
                target=self._feed, args=(source, stop), name=f"source-{source.name}", daemon=True
            )
            for source in self._sources
        ]
        for feeder in feeders:
            feeder.start()
        self._systemd.ready()
        try:
            self._work(stop)
        finally:
            self._systemd.stopping()
            stop.set()
            for sender in self._outgoing:
                sender.stop()
            self._connection.stop(_FLUSH_S)
            if self.screen:
                self.screen.stop()
            for feeder in feeders:
                feeder.join(1.0)
        self._audit.add("stop", {})

    def _work(self, stop: threading.Event) -> None:
        next_health = time.monotonic()
        while not stop.is_set():
            if self._database.failing:  # take nothing that cannot be kept
                stop.wait(_LOOK_S)
            else:
                with suppress(Empty):
                    item = self._items.get(timeout=_LOOK_S)
                    self._items.task_done()
                    self._take(item)
            if self._database.hung_s() < self._systemd.patience_s / 2:
                self._systemd.feed()
            self._recorder.close_studies(self._config.study_silence_s)
            self._observations.settle()
            self._recorder.settle()
            self._watch.look()
            if time.monotonic() >= next_health:
                next_health = time.monotonic() + self._config.health_s
                self._connection.say(self._topics.health, self.health().model_dump_json().encode())
                if self._clock.trusted() and not self._database.failing:
                    self.store.purge(self._config.keep_days, self._audit)
                    self._originals.purge(self._config.keep_days)
        self._observations.settle(everything=True)
        self._recorder.settle(everything=True)

    def _feed(self, source: Source, stop: threading.Event) -> None:
        for item in source.frames(stop):
            waiting = True
            while waiting and not stop.is_set():
                with suppress(Full):
                    self._items.put(item, timeout=_LOOK_S)
                    waiting = False
            if isinstance(item, Frame) and item.live:  # one that waits grows old: take no other meanwhile
                with self._items.all_tasks_done:
                    while self._items.unfinished_tasks and not stop.is_set():
                        self._items.all_tasks_done.wait(_LOOK_S)

    def _take(self, item: Item) -> None:
        if isinstance(item, Frame):
            self._judge(item)
        elif isinstance(item, Original):
            self._originals.take(item)
        elif isinstance(item, Failure):
            self._fail(item)
        elif isinstance(item, Done):
            self._recorder.seen(self._identity.mark(key) for key in item.keys)
        else:
            self._recorder.tell(self._recorder.event(item.severity, item.code, item.message, item.data))

    def _judge(self, frame: Frame) -> None:
        self._count_frame()
        models = covering(self._models, frame.header)
        reason = frame.reason or (None if models else Reason.NOT_COVERED)
        for model in models or self._models[:1]:
            if not frame.live and self.store.seen(self._reporter.finding_id(model, frame)):
                continue
            if reason:
                self._telling.take(self._reporter.withheld(model, frame, reason), live=frame.live)
                continue
            report, error = self._reporter.judged(model, frame)
            name = model.ref.name
            event = None
            if error is None:
                self._failing.discard(name)
                self._counters.inference_ms.append(report.finding.elapsed_ms.get("infer", 0.0))
            elif name not in self._failing:
                self._failing.add(name)
                event = self._recorder.event("error", "engine_failed", str(error), {"bundle": name})
            self._telling.take(report, event, live=frame.live)
            self._observations.follow(frame, report.finding)
            self._telling.let_go(report.finding, but=self._observations.names(report.finding))

    def _fail(self, failure: Failure) -> None:
        """Keep what gave no frame in the quarantine, say so, and only then take it away."""
        self._count_frame()
        report = self._reporter.withheld(self._models[0], failure, failure.reason)
        id_ = report.finding.id
        try:
            self._quarantine.keep(id_, failure, self._clock.now().isoformat())
        except OSError as error:
            log.error("the quarantine cannot be written", extra={"id": id_, "error": error.strerror})
            kept = False
        else:
            kept = True
        event = self._recorder.event(
            "error",
            "quarantined" if kept else "not_quarantined",
            f"source '{failure.source}': no image could be had ({failure.reason.value});"
            + (f" kept in the quarantine as {id_}" if kept else " it stays where it is"),
            {"source": failure.source, "reason": failure.reason.value, "id": id_},
        )
        self._counters.quarantined += self._recorder.finding(report, event).result()
        if kept and not self._quarantine.release(failure):
            log.warning("the quarantined file could not be taken out of its folder", extra={"id": id_})

    def _count_frame(self) -> None:
        self._counters.frames += 1
        self._counters.last_frame = self._clock.now()

    def _seen(self, key: str) -> bool:
        return self.store.seen(self._identity.mark(key))

    def _say_what_is_used(self) -> None:
        used = {
            "agent_version": __version__,
            "config_sha256": hashlib.sha256(self._config.model_dump_json().encode()).hexdigest(),
            **{f"bundle {model.ref.name}": model.ref.sha256 for model in self._models},
        }
        self._audit.add("start", used)
        for model in self._models:
            said = {"bundle": model.ref.name, "version": model.ref.version, "engine": model.engine}
            log.info("bundle loaded", extra=said | {"golden_difference": model.golden_difference})
        if not all(model.ref.signed for model in self._models):
            event = self._recorder.event(
                "warning",
                "bundle_unsigned",
                "running a bundle without proof of origin, because allow_unsigned is set",
                {"bundles": ", ".join(model.ref.name for model in self._models if not model.ref.signed)},
            )
            self._recorder.tell(event)
        mqtt = self._config.mqtt
        if mqtt.protocol == "3.1.1" and not mqtt.receipts:
            log.warning(
                "MQTT 3.1.1 without receipts: the broker's word is all there is that a finding arrived;"
                " it says nothing of refusals or missing subscribers"
            )

    def _broker_changed(self, online: bool, why: str) -> None:
        where = f"{self._config.mqtt.host}:{self._config.mqtt.port}"
        if online:
            log.info("connected to the broker", extra={"broker": where})
        else:
            message = f"broker {where} is not there ({why}); findings are kept and told later"
            self._recorder.tell(self._recorder.event("warning", "broker_lost", message))

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
        )
        return birth.model_dump_json().encode()

    def health(self) -> Health:
        """How the device is now; from any thread."""
        self._counters.findings = self._recorder.findings
        days = self._watch.certificate_days()
        return measure(self._clock.stamp(), self._counters, self._outbox, self._config.state, days)

    def _status(self) -> dict[str, Scalar]:
        """The Health, without its stamp, and what the agent is."""
        health = self.health().model_dump(mode="json", exclude={"schema_version", "stamp"})
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
            event = self._recorder.event("warning", "command_invalid", f"command '{name[:64]}': {error}")
            self._recorder.tell(event)
            return None
        said: dict[str, Scalar] = {"name_of_command": name[:64], "ok": response.ok, "error": response.error}
        self._audit.add("command", said | {"correlation_id": response.correlation_id})
        log.info("command", extra=said)
        return response.model_dump_json().encode()

    def _thread_failed(self, failed: threading.ExceptHookArgs, stop: threading.Event) -> None:
        name = failed.thread.name if failed.thread else "a thread"
        if isinstance(failed.exc_value, ScanwrightError):
            self._defect = str(failed.exc_value)
        else:
            what = failed.exc_type.__name__
            self._defect = f"the agent stopped on a defect in '{name}' ({what}); the log has the details"
        stop.set()
        log.critical(self._defect, exc_info=failed.exc_value)


def load_models(config: AgentConfig) -> list[Model]:
    """The configured bundles, ready.

    Raises:
        BadInputError: one cannot be used, or two are the same.
        ScanwrightError: the interpreter does not run one as it should.
    """
    models = [
        Model(
            path,
            allow_unsigned=config.allow_unsigned,
            target=config.target,
            threads=config.threads,
            interpreter=config.interpreter,
        )
        for path in config.bundles
    ]
    names = [model.ref.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise BadInputError(f"bundles: two are called '{name}'; keep the one to use")
    return models


def broker_of(config: MqttConfig) -> Broker:
    """The configured broker, with its password read.

    Raises:
        BadInputError: the password file cannot be read.
    """
    password = None
    if config.password_file is not None:
        try:
            password = config.password_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"mqtt.password_file: {config.password_file} cannot be read") from error
    tls = config.tls
    return Broker(
        host=config.host,
        port=config.port,
        protocol=config.protocol,
        username=config.username,
        password=password,
        ca=tls.ca if tls else None,
        certificate=tls.certificate if tls else None,
        key=tls.key if tls else None,
        keepalive_s=config.keepalive_s,
    )
