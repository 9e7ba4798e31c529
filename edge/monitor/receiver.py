"""The receiver: what all carts say, stored durably, and only then receipted to the cart it came from."""

from __future__ import annotations

import logging
import select
import threading
import time
import uuid
from collections.abc import Iterator
from itertools import islice
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions
from sqlalchemy import Connection, update
from sqlalchemy.exc import SQLAlchemyError

from edge.monitor.hearing import Heard, RefusedError, hear
from edge.monitor.oddities import Oddities
from edge.monitor.store import commands, reviews
from edge.monitor.store.database import Database, UnavailableError
from edge.monitor.store.intake import Kept, MonitorEvent, keep, tell
from edge.mqtt.broker import Broker
from edge.mqtt.payloads import Ack
from edge.mqtt.topics import Topics

__all__ = ["Receiver"]

log = logging.getLogger(__name__)

_GROUP = 256  # most messages in one commit
_IDS = 1000  # most in one receipt
_LOOK_S = 0.5  # how soon a stop, or a command to send, is noticed
_VERDICTS_S = 5.0  # how often verdicts are looked for that a cart does not know
_RETRY_S = (0.5, 30.0)  # first and longest wait between attempts to connect
_SESSION_S = 30 * 24 * 3600  # how long the broker keeps for us what arrives while we are away
_LARGEST_IN = 256 * 1024  # bytes of a message that is taken
_TAKEN_OVER = 0x8E


class Receiver:
    """Takes what carts say from a broker (MQTT 5) into a store, and sends them commands.

    The broker is told that a message was taken only after the commit that holds it, so that it brings again
    what a killed receiver had not stored; the cart hears on ``down/ack`` at the same time. What is no message
    of a cart, or speaks for another than its topic's, is counted in ``refused``, told, and never receipted.
    """

    def __init__(self, broker: Broker, database: Database, group: str | None = None) -> None:
        """``group``: receivers of one name share the messages of the broker (shared subscription).

        Raises:
            BadInputError: a TLS file is missing or is not one.
        """
        self._broker, self._database, self._group = broker, database, group
        self._client()  # so that a wrong TLS file is told at once
        self._said: str | None = None
        self._batch: list[MQTTMessage] = []
        self._oddities = Oddities()
        self._lost_at: float | None = None
        self._verdicts_at = 0.0
        self._online = False
        self._why = ""
        self.stored = self.repeated = self.refused = 0

    def run(self, stop: threading.Event) -> None:
        """Receive until ``stop`` is set, connecting again whenever the connection is lost.

        Raises:
            ScanwrightError: the store is damaged.
        """
        wait, longest = _RETRY_S
        while not stop.is_set():
            client = self._client()
            self._batch, self._online, self._why = [], False, "the connection was lost"
            try:
                self._connect(client)
                self._serve(client, stop)
            except OSError as error:
                self._why = error.strerror or str(error)
            except UnavailableError as error:
                # Disk full, PostgreSQL gone: may pass. The broker still has what was not taken.
                self._why = str(error)
                self._lost_at = self._lost_at or time.time()
            finally:
                if stop.is_set():
                    client.disconnect()
                if (sock := client.socket()) is not None:
                    sock.close()
            wait = _RETRY_S[0] if self._online else min(wait * 2, longest)
            if not stop.is_set():
                self._say(f"not receiving ({self._why}); trying again", logging.WARNING)
                stop.wait(wait)

    def _client(self) -> Client:
        worker = f"{self._group}-{uuid.uuid4().hex[:12]}" if self._group else self._database.name
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"scanwright-monitor-{worker}",
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        self._broker.secure(client)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = lambda _client, _data, message: self._batch.append(message)
        return client

    def _connect(self, client: Client) -> None:
        broker = self._broker
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        # A worker of a group leaves what it had not taken to the others.
        properties.SessionExpiryInterval = 0 if self._group else _SESSION_S
        properties.MaximumPacketSize = _LARGEST_IN
        properties.ReceiveMaximum = _GROUP
        client.connect(
            broker.host, broker.port, broker.keepalive_s, clean_start=bool(self._group), properties=properties
        )

    def _serve(self, client: Client, stop: threading.Event) -> None:
        status = MQTTErrorCode.MQTT_ERR_SUCCESS
        look_at = 0.0
        while not status and not stop.is_set() and (sock := client.socket()) is not None:
            writing = [sock] if client.want_write() else []
            readable, writable, _ = select.select([sock], writing, [], _LOOK_S)
            more = bool(readable)
            while more and not status and len(self._batch) < _GROUP:
                status = client.loop_read()
                more = client.socket() is not None and _has_more(sock)
            if self._batch and client.socket() is not None:
                self._settle(client)
            if self._online and time.monotonic() >= look_at:
                look_at = time.monotonic() + _LOOK_S
                self._order(client)
            if writable and client.socket() is not None:
                client.loop_write()
            status = status or client.loop_misc()

    def _settle(self, client: Client) -> None:
        """Store what came, then say so to the carts and to the broker."""
        batch: list[Heard] = []
        odd: list[MonitorEvent] = []
        for message in self._batch:
            try:
                batch.append(
                    hear(message.topic, bytes(message.payload), time.time(), retained=message.retain)
                )
            except RefusedError as error:
                odd += self._refused(error)
        for heard in batch:
            odd += self._oddities.of(heard)
        odd += self._store_is_back()
        kept = self._keep(batch, odd)
        self.stored += kept.new
        for (site, device), ids in kept.findings.items():
            self.repeated += len(ids)
            for some in _chunks(ids, _IDS):
                receipt = Ack(ids=tuple(some)).model_dump_json()
                client.publish(Topics(site, device).ack, receipt, qos=1)
        self.repeated -= kept.new
        for message in self._batch:
            client.ack(message.mid, message.qos)
        self._batch = []

    def _keep(self, batch: list[Heard], odd: list[MonitorEvent]) -> Kept:
        now = time.time()
        twice, self._oddities.twice = self._oddities.twice, set()

        def write(connection: Connection) -> Kept:
            kept = keep(connection, self._database, batch, now)
            device = self._database.tables["device"]
            for site, name in twice:
                mine = (device.c.site == site) & (device.c.device == name)
                connection.execute(update(device).where(mine).values(twice_at=now, changed=now))
            tell(connection, self._database, odd, now)
            return kept

        try:
            kept = self._database.write(write).result()
        except (SQLAlchemyError, ValueError, OverflowError) as error:
            return self._one_by_one(batch, odd, error)
        forged = [
            event
            for (site, device), ids in kept.forged.items()
            for event in self._oddities.of_receipts(site, device, ids)
        ]
        if forged:
            self._database.write(lambda connection: tell(connection, self._database, forged, now)).result()
        return kept

    def _one_by_one(self, batch: list[Heard], odd: list[MonitorEvent], error: Exception) -> Kept:
        """One message cannot be stored by this database: let the others not suffer for it."""
        if len(batch) <= 1:
            for heard in batch:
                said = f"its {heard.kind} cannot be stored ({type(error).__name__})"
                odd = [*odd, *self._refused(RefusedError("message_refused", said, heard.site, heard.device))]
            return self._keep([], odd)
        kept = self._keep([], odd)
        for heard in batch:
            one = self._keep([heard], [])
            kept.new += one.new
            for cart, ids in one.findings.items():
                kept.findings[cart] += ids
        return kept

    def _refused(self, error: RefusedError) -> Iterator[MonitorEvent]:
        self.refused += 1
        if self.refused & (self.refused - 1) == 0:  # the 1st, 2nd, 4th, …: a flood must not fill the log
            log.warning("%d messages refused so far; the last: %s", self.refused, error)
        yield from self._oddities.of_refusal(error)

    def _store_is_back(self) -> Iterator[MonitorEvent]:
        if self._lost_at is not None:
            gone = time.time() - self._lost_at
            said = f"the store could not be written for {gone:.0f} s; nothing was receipted meanwhile"
            self._lost_at = None
            yield MonitorEvent("store_back", said)

    def _order(self, client: Client) -> None:
        """Send what carts are to be told."""
        now = time.time()
        if time.monotonic() >= self._verdicts_at:
            self._verdicts_at = time.monotonic() + _VERDICTS_S
            if reviews.untold(self._database):
                self._database.write(lambda c: reviews.order_untold(c, self._database, now)).result()
        if commands.waiting(self._database):
            for one in self._database.write(lambda c: commands.claim(c, self._database, now)).result():
                topic = Topics(one.site, one.device).command(one.name)
                client.publish(topic, one.command.model_dump_json(), qos=1)

    def _on_connect(
        self, client: Client, _data: Any, _flags: ConnectFlags, code: ReasonCode, _said: Properties | None
    ) -> None:
        if code.is_failure:
            self._why = f"the broker refused: {code}"
            return
        cart = Topics("+", "+")
        # What is retained goes to every worker of a group: a shared subscription is brought nothing retained.
        own = [(cart.availability, SubscribeOptions(qos=1)), (cart.birth, SubscribeOptions(qos=1))]
        own.append((cart.ack, SubscribeOptions(qos=0, noLocal=True)))
        shared = [cart.finding, cart.event, cart.health, cart.overlay("+"), cart.response("+")]
        prefix = f"$share/{self._group}/" if self._group else ""
        client.subscribe([*own, *((prefix + topic, SubscribeOptions(qos=1)) for topic in shared)])

    def _on_subscribe(
        self, client: Client, _data: Any, _mid: int, codes: list[ReasonCode], _said: Properties | None
    ) -> None:
        refused = [code for code in (*codes[:2], *codes[3:]) if code.is_failure]  # [2]: others' receipts
        if refused:
            self._why = f"the broker refused the subscription: {refused[0]}"
            client.disconnect()
            return
        self._online = True
        self._say("receiving findings", logging.INFO)

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, code: ReasonCode, _said: Properties | None
    ) -> None:
        if code.value == _TAKEN_OVER:
            self._why = "another monitor of this store has connected; give both the same --workers-group"
        elif code.is_failure:
            self._why = f"the connection was lost: {code}"

    def _say(self, what: str, level: int) -> None:
        if what != self._said:
            log.log(level, what)
        self._said = what


def _chunks(ids: list[str], size: int) -> Iterator[list[str]]:
    rest = iter(ids)
    while some := list(islice(rest, size)):
        yield some


def _has_more(sock: Any) -> bool:
    # TLS may hold decrypted bytes that select does not see.
    return bool(getattr(sock, "pending", lambda: 0)() or select.select([sock], [], [], 0)[0])
