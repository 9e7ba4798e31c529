"""The receiver: findings of all carts, stored durably, and only then receipted to the cart they came from."""

from __future__ import annotations

import logging
import select
import sqlite3
import threading
from collections import defaultdict
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.errors import BadInputError
from edge.monitor.store import Store
from edge.mqtt.broker import Broker
from edge.mqtt.payloads import Ack, Finding
from edge.mqtt.topics import Topics

__all__ = ["Receiver"]

log = logging.getLogger(__name__)

_GROUP = 256  # most findings in one commit, and in one receipt
_LOOK_S = 0.5  # how soon a stop is noticed
_RETRY_S = (0.5, 30.0)  # first and longest wait between attempts to connect


class Receiver:
    """Takes findings from a broker (MQTT 5) into a store.

    The broker is told that a message was taken only after the commit that holds it, so that it brings again
    what a killed receiver had not stored; the cart hears on ``down/ack`` at the same time. What is no
    Finding, or speaks for another device than its topic's, is counted in ``refused``, logged, and never
    receipted.
    """

    def __init__(self, broker: Broker, store: Store) -> None:
        """Raises BadInputError if a TLS file is missing or is not one."""
        self._broker, self._store = broker, store
        self._client()  # so that a wrong TLS file is told at once
        self._said: str | None = None
        self._batch: list[MQTTMessage] = []
        self._online = False
        self._why = ""
        self.stored = self.repeated = self.refused = 0

    def run(self, stop: threading.Event) -> None:
        """Receive until ``stop`` is set, connecting again whenever the connection is lost.

        Raises:
            sqlite3.DatabaseError: the store is damaged.
        """
        wait, longest = _RETRY_S
        while not stop.is_set():
            client = self._client()
            self._batch, self._online, self._why = [], False, "the connection was lost"
            try:
                self._broker.connect(client)
                self._serve(client, stop)
            except OSError as error:
                self._why = error.strerror or str(error)
            except sqlite3.OperationalError as error:
                # Disk full, I/O error: may pass. The broker still has what was not taken.
                self._why = f"the store cannot be written: {error}"
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
        broker = self._broker
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"scanwright-monitor-{self._store.name}",
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.ca is not None:
            certificate = str(broker.certificate) if broker.certificate else None
            try:
                client.tls_set(str(broker.ca), certificate, str(broker.key) if broker.key else None)
            except OSError as error:
                files = ", ".join(str(file) for file in (broker.ca, broker.certificate, broker.key) if file)
                why = error.strerror or str(error)
                raise BadInputError(f"TLS: one of {files} cannot be used ({why})") from error
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = lambda _client, _data, message: self._batch.append(message)
        return client

    def _serve(self, client: Client, stop: threading.Event) -> None:
        status = MQTTErrorCode.MQTT_ERR_SUCCESS
        while not status and not stop.is_set() and (sock := client.socket()) is not None:
            writing = [sock] if client.want_write() else []
            readable, writable, _ = select.select([sock], writing, [], _LOOK_S)
            more = bool(readable)
            while more and not status and len(self._batch) < _GROUP:
                status = client.loop_read()
                more = client.socket() is not None and _has_more(sock)
            if self._batch and client.socket() is not None:
                self._settle(client)
            if writable and client.socket() is not None:
                client.loop_write()
            status = status or client.loop_misc()

    def _settle(self, client: Client) -> None:
        """Store what came, then say so to the carts and to the broker."""
        findings = [finding for finding in map(self._parse, self._batch) if finding]
        new = self._store.keep(findings) if findings else 0
        self.stored += new
        self.repeated += len(findings) - new
        ids: dict[Topics, list[str]] = defaultdict(list)
        for finding, _ in findings:
            ids[Topics(finding.site, finding.device)].append(finding.id)
        for topics, known in ids.items():
            client.publish(topics.ack, Ack(ids=tuple(known)).model_dump_json(), qos=1)
        for message in self._batch:
            client.ack(message.mid, message.qos)
        self._batch = []

    def _parse(self, message: MQTTMessage) -> tuple[Finding, str] | None:
        try:
            finding = Finding.model_validate_json(message.payload)
            if message.topic != Topics(finding.site, finding.device).finding:
                raise ValueError("it speaks for another device than its topic's")
            return finding, bytes(message.payload).decode()
        except ValueError as error:
            self.refused += 1
            if self.refused & (self.refused - 1) == 0:  # the 1st, 2nd, 4th, …: a flood must not fill the log
                why = "it is no Finding" if hasattr(error, "errors") else str(error)
                log.warning("%d messages refused so far; the last: %s", self.refused, why)
            return None

    def _on_connect(
        self, client: Client, _data: Any, _flags: ConnectFlags, code: ReasonCode, _said: Properties | None
    ) -> None:
        if code.is_failure:
            self._why = f"the broker refused: {code}"
            return
        client.subscribe(Topics("+", "+").finding, qos=1)

    def _on_subscribe(
        self, client: Client, _data: Any, _mid: int, codes: list[ReasonCode], _said: Properties | None
    ) -> None:
        if codes[0].is_failure:
            self._why = f"the broker refused the subscription: {codes[0]}"
            client.disconnect()
            return
        self._online = True
        self._say("receiving findings", logging.INFO)

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, code: ReasonCode, _said: Properties | None
    ) -> None:
        if code.is_failure:
            self._why = f"the connection was lost: {code}"

    def _say(self, what: str, level: int) -> None:
        if what != self._said:
            log.log(level, what)
        self._said = what


def _has_more(sock: Any) -> bool:
    # TLS may hold decrypted bytes that select does not see.
    return bool(getattr(sock, "pending", lambda: 0)() or select.select([sock], [], [], 0)[0])
