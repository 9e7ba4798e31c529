"""The broker: where it is, how it is spoken to, and the paho client that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.errors import BadInputError
from edge.mqtt.tls import tls_context
from edge.mqtt.topics import OFFLINE, Topics

__all__ = ["WINDOW", "Broker"]

WINDOW = 20  # most messages in flight
_LARGEST_IN = 256 * 1024  # bytes of a message that is taken
_SESSION_S = 24 * 3600  # how long the broker keeps commands for a device that is away
_CONNECT_S = 4.0


@dataclass(frozen=True)
class Broker:
    """Where the broker is and who asks. ``ca`` switches TLS on; with certificate and key it is mutual.

    ``floor`` gives a time that has passed for sure: the broker's certificate must be valid after it.
    """

    host: str
    port: int
    protocol: Literal["5", "3.1.1"] = "5"
    username: str | None = None
    password: str | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    keepalive_s: int = 30
    floor: Callable[[], datetime] = lambda: datetime.min.replace(tzinfo=timezone.utc)

    def client(self, topics: Topics) -> Client:
        """A client that is not connected yet, with its last will.

        Raises:
            BadInputError: a TLS file is missing or is not one.
        """
        old = self.protocol == "3.1.1"
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"scanwright-{topics.site}-{topics.device}",
            clean_session=False if old else None,
            protocol=MQTTProtocolVersion.MQTTv311 if old else MQTTProtocolVersion.MQTTv5,
        )
        client.connect_timeout = _CONNECT_S
        client.max_inflight_messages_set(WINDOW)
        client.will_set(topics.availability, OFFLINE, qos=1, retain=True)
        self.secure(client)
        return client

    def secure(self, client: Client) -> None:
        """Give a client what it proves itself by, and TLS.

        Raises:
            BadInputError: a TLS file is missing or is not one.
        """
        if self.username is not None:
            client.username_pw_set(self.username, self.password)
        if self.ca is not None:
            self._use_tls(client, self.ca)

    def connect(self, client: Client) -> None:
        """Connect, keeping the session's subscriptions and queued commands.

        Raises:
            OSError: there is no broker, or TLS does not come about.
        """
        if self.protocol == "3.1.1":
            client.connect(self.host, self.port, self.keepalive_s)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = _SESSION_S
        properties.MaximumPacketSize = _LARGEST_IN
        client.connect(self.host, self.port, self.keepalive_s, clean_start=False, properties=properties)

    def _use_tls(self, client: Client, ca: Path) -> None:
        try:
            client.tls_set_context(tls_context(ca, self.certificate, self.key, self.floor))
        except OSError as error:
            files = ", ".join(str(file) for file in (ca, self.certificate, self.key) if file)
            why = error.strerror or str(error)
            raise BadInputError(f"mqtt.tls: one of {files} cannot be used ({why})") from error
