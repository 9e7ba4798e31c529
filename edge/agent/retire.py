"""The end of a cart: what waits is told, the broker forgets it, and what it knew is destroyed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from edge.agent.broker import broker_of
from edge.agent.clock import Clock
from edge.agent.config import AgentConfig
from edge.agent.database import Database
from edge.agent.outbox import Outbox
from edge.agent.recorder import Recorder
from edge.agent.state import CASE_KEY, DATABASE, lock_state
from edge.agent.watch import time_floor
from edge.errors import BadInputError, ScanwrightError
from edge.files import sync_folder
from edge.mqtt.broker import Broker
from edge.mqtt.connection import Connection
from edge.mqtt.discovery import discovery_topic
from edge.mqtt.topics import Topics

__all__ = ["retire", "wipe"]

_LOOK_S = 0.2
_SAY_S = 5.0
_FAREWELL_S = 10.0
_CHUNK = 1 << 20

Say = Callable[[str], None]


def retire(config: AgentConfig, wait_s: float, discard: bool, say: Say) -> None:
    """Deliver what waits, for at most ``wait_s``; tell the broker; destroy the state folder's content and
    the device's key, certificate and password. Done again after an interruption, it goes on where it was.

    Raises:
        BadInputError: the broker's files cannot be used, and ``discard`` is False.
        ScanwrightError: an agent runs, something was not delivered and ``discard`` is False (then nothing
            is destroyed), or a file could not be destroyed.
    """
    with lock_state(config.state):
        if (config.state / DATABASE).exists():
            _tell_all(config, wait_s, discard, say)
        _destroy(config, say)


def wipe(path: Path) -> None:
    """Overwrite a file with random bytes and remove it; flash media may keep remnants all the same.

    Raises:
        OSError: it is there but cannot be written or removed.
    """
    if not path.is_symlink():
        with path.open("r+b", buffering=0) as file:
            left = os.fstat(file.fileno()).st_size
            while left > 0:
                left -= file.write(os.urandom(min(left, _CHUNK))) or 0
            os.fsync(file.fileno())
    path.unlink()
    sync_folder(path.parent)


def _tell_all(config: AgentConfig, wait_s: float, discard: bool, say: Say) -> None:
    topics = Topics(config.site, config.device)
    with closing(Database(config.state / DATABASE)) as database:
        outbox = Outbox(database)
        try:
            floor = time_floor(config)
            broker = replace(broker_of(config.mqtt), floor=floor)
            why: list[str] = []
            prefix = config.mqtt.discovery_prefix
            connection = Connection(
                broker,
                topics,
                outbox,
                receipts=config.mqtt.receipts,
                birth=lambda: b"",  # clears the one that is retained
                command=lambda _name, _payload: None,
                changed=lambda _online, reason: why.append(reason),
                refused=lambda *_: None,
                introduction={} if prefix is None else {discovery_topic(prefix, topics): b""},
            )
        except BadInputError as error:
            if not discard:
                raise
            say(f"the broker is not told: {error}")
            return
        database.watch(connection.wake)
        connection.start()
        try:
            # A connection that is cut off while it comes about has its last will told after all is cleared.
            deadline = time.monotonic() + min(wait_s, _FAREWELL_S)
            while not connection.online and time.monotonic() < deadline:
                time.sleep(_LOOK_S)
            _drain(outbox, wait_s, say)
            undelivered = outbox.counts()["finding"] + outbox.aside()["finding"]
            (originals,) = database.read("SELECT count(*) FROM original WHERE forwarded IS NULL")[0]
            if config.pacs is None:
                originals = 0
            if (undelivered or originals) and not discard:
                reason = f" ({why[-1]})" if why and why[-1] else ""
                raise ScanwrightError(
                    f"{undelivered} findings are not delivered and {originals} originals are not forwarded"
                    f"{reason}; nothing was destroyed. Wait longer with --wait, or lose them with"
                    " --discard-undelivered"
                )
            recorder = Recorder(database, topics, Clock(floor=floor))
            message = "the cart is retired; what it knew is being destroyed"
            recorder.tell("info", "retired", message, {"undelivered": undelivered})
            recorder.settle(everything=True)
            if connection.online:
                _drain(outbox, _FAREWELL_S, say)
        finally:
            connection.stop(_FAREWELL_S)
        if outbox.counts()["event"] or not _forgotten(broker, topics):
            say(f"the broker was not told; clear {topics.availability} and {topics.birth} there by hand")
        for kind, count in outbox.counts().items():
            if count:
                say(f"lost: {count} {kind}s that were not delivered")


def _drain(outbox: Outbox, wait_s: float, say: Say) -> None:
    deadline, next_word = time.monotonic() + wait_s, time.monotonic() + _SAY_S
    while (left := sum(outbox.counts().values())) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        if time.monotonic() >= next_word:
            next_word += _SAY_S
            say(f"delivering: {left} left")


def _forgotten(broker: Broker, topics: Topics) -> bool:
    """Clear the retained ``offline``; whether the broker confirmed that."""
    client = broker.client(topics)
    try:
        broker.connect(client)
    except OSError:
        return False
    client.loop_start()
    try:
        info = client.publish(topics.availability, b"", qos=1, retain=True)
        with suppress(RuntimeError, ValueError):
            info.wait_for_publish(_FAREWELL_S)
        done: bool = info.is_published()
        client.disconnect()
    finally:
        client.loop_stop()
    return done


def _destroy(config: AgentConfig, say: Say) -> None:
    failed = []
    for path in _belongings(config):
        try:
            wipe(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            failed.append(f"{path} ({error.strerror})")
    for folder in sorted((p for p in config.state.rglob("*") if p.is_dir()), reverse=True):
        with suppress(OSError):
            folder.rmdir()
    if failed:
        raise ScanwrightError(f"not destroyed: {', '.join(failed)}; destroy them by hand")
    for source in config.sources:
        if source.kind == "folder":
            say(f"left as it is: {source.path}, images that came from elsewhere; empty it by hand")


def _belongings(config: AgentConfig) -> Iterator[Path]:
    """Keys first: without them what is sealed is noise. The way to the broker last, so that this may be
    done again."""
    first = [config.state / CASE_KEY, config.state / "secret"]
    yield from first
    yield from (
        p for p in sorted(config.state.rglob("*")) if p not in first and (p.is_symlink() or p.is_file())
    )
    tls = config.mqtt.tls
    for path in (*((tls.key, tls.certificate) if tls else ()), config.mqtt.password_file):
        if path is not None:
            yield path
