"""A real mosquitto as ``scanwright keys`` sets it up: who gets in, and what each may do."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.agent.database import Database
from edge.agent.outbox import Outbox
from edge.keys.authority import Authority
from edge.keys.folder import KeyFolder
from edge.keys.mosquitto import FOLDER
from edge.mqtt.broker import Broker
from edge.mqtt.connection import Connection
from edge.mqtt.topics import Topics
from edge.site import Site
from tests.integration.conftest import Mosquitto, wait_for

pytestmark = pytest.mark.integration

NOT_AUTHORIZED = 0x87
UP, DOWN = "scanwright/clinic/{}/up/finding", "scanwright/clinic/{}/down/command/ping"


class Clinic:
    """A site's keys, and its broker as ``keys init`` sets it up."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.site = Site.model_validate(
            {
                "site": "clinic",
                "broker": {"host": "127.0.0.1", "port": broker.port},
                "carts": [{"device": d, "target": "raspberry-pi-5"} for d in ("cart-1", "cart-2")],
            }
        )
        self.broker = broker
        self.keys = KeyFolder.create(folder / "keys", self.site, 825, None)
        for name in ("cart-1", "cart-2"):
            self.keys.issue(self.site, name, 825, None)
        installed = folder / "installed"
        shutil.copytree(self.keys.path / "broker", installed)
        config = (installed / "mosquitto.conf").read_text().replace(FOLDER, str(installed))
        config = config.replace("/var/lib/mosquitto", str(installed))
        broker.configure(config)
        self.installed = installed

    def revoke(self, name: str) -> None:
        self.keys.revoke(name, None)
        shutil.copy(self.keys.path / "broker" / "crl.pem", self.installed)

    def tls(self, name: str) -> dict[str, Path]:
        holder = self.keys.holder(name)
        return {
            "ca": holder / "ca.pem",
            "certificate": holder / "certificate.pem",
            "key": holder / "key.pem",
        }


@pytest.fixture
def clinic(mosquitto, tmp_path) -> Clinic:
    made = Clinic(tmp_path, mosquitto())
    made.broker.start()
    return made


class Party:
    """An MQTT 5 client that proves itself by some certificate, and remembers what it received."""

    def __init__(self, port: int, context: ssl.SSLContext | None, subscribe: str = "#") -> None:
        self.received: list[tuple[str, bytes]] = []
        self.code: int | None = None
        self.failed = ""
        self._done = threading.Event()
        self._codes: dict[int, int] = {}
        self._client = Client(CallbackAPIVersion.VERSION2, "any", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = lambda *_: self._done.set()
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = lambda *_: self._done.set()
        self._client.on_message = lambda _c, _d, m: self.received.append((m.topic, bytes(m.payload)))
        self._client.on_publish = lambda _c, _d, mid, code, _p: self._codes.update({mid: code.value})
        self._subscribe = subscribe
        if context is not None:
            self._client.tls_set_context(context)
        try:
            self._client.connect("127.0.0.1", port)
        except OSError as error:
            self.failed = str(error)
            return
        self._client.loop_start()
        assert self._done.wait(10)

    @property
    def admitted(self) -> bool:
        return self.code == 0

    def publish(self, topic: str, payload: str = "{}") -> int:
        """The reason code of the PUBACK."""
        mid = self._client.publish(topic, payload, qos=1).mid
        wait_for(lambda: mid in self._codes)
        return self._codes[mid]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Client, _data: Any, _flags: Any, code: Any, _said: Any) -> None:
        self.code = code.value
        client.subscribe(self._subscribe, qos=1)

    def _on_disconnect(self, *_: Any) -> None:
        self._done.set()
        self._client.disconnect()


@pytest.fixture
def party(clinic) -> Iterator[Callable[..., Party]]:
    made: list[Party] = []

    def make(name: str | ssl.SSLContext | None, **options: str) -> Party:
        context = _context(**clinic.tls(name)) if isinstance(name, str) else name
        made.append(Party(clinic.broker.port, context, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def _context(ca: Path, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def _issued(clinic: Clinic, folder: Path, authority: Authority, until: datetime) -> ssl.SSLContext:
    made = authority.issue("clinic", "cart-1", "client", [], until)
    (folder / "odd.pem").write_bytes(made.certificate)
    (folder / "odd.key").write_bytes(made.key)
    return _context(clinic.tls("cart-1")["ca"], folder / "odd.pem", folder / "odd.key")


@pytest.fixture
def device(tmp_path) -> Iterator[Callable[..., tuple[Connection, Outbox, list[tuple[bool, str]]]]]:
    """``device(broker)``: the agent's own connection and outbox of cart-1, and what it says of the broker."""
    held: list[tuple[Connection, Database]] = []

    def make(broker: Broker) -> tuple[Connection, Outbox, list[tuple[bool, str]]]:
        changes: list[tuple[bool, str]] = []
        database = Database(tmp_path / f"{len(held)}.db")
        outbox = Outbox(database)
        connection = Connection(
            broker,
            Topics("clinic", "cart-1"),
            outbox,
            receipts=True,
            birth=lambda: b"{}",
            command=lambda name, _: b'{"pong": true}',
            changed=lambda online, why: changes.append((online, why)),
            refused=lambda *_: None,
        )
        database.watch(connection.wake)
        held.append((connection, database))
        connection.start()
        return connection, outbox, changes

    yield make
    for connection, database in held:
        connection.stop(2)
        database.close()


def test_a_cart_delivers_takes_commands_and_receipts_over_mutual_tls(clinic, party, device):
    headquarters = party("headquarters", subscribe="scanwright/clinic/+/up/#")
    connection, outbox, _ = device(Broker("127.0.0.1", clinic.broker.port, **clinic.tls("cart-1")))
    wait_for(lambda: connection.online)
    topics = Topics("clinic", "cart-1")
    outbox.put("finding", "a" * 32, topics.finding, b'{"id": "a"}').result()
    wait_for(lambda: (topics.finding, b'{"id": "a"}') in headquarters.received)
    assert headquarters.publish(topics.command("ping")) == 0
    wait_for(lambda: (topics.response("ping"), b'{"pong": true}') in headquarters.received)
    assert outbox.counts()["finding"] == 1
    assert headquarters.publish(topics.ack, json.dumps({"ids": ["a" * 32]})) == 0
    wait_for(lambda: outbox.counts()["finding"] == 0)
    connection.stop(5)
    wait_for(lambda: (topics.availability, b"offline") in headquarters.received)


def test_a_cart_writes_only_its_own_and_reads_only_its_own(clinic, party):
    headquarters = party("headquarters")
    mine, other = party("cart-1"), party("cart-2")
    for topic in (UP.format("cart-2"), DOWN.format("cart-2"), DOWN.format("cart-1"), "scanwright/x", "other"):
        assert mine.publish(topic, "forged") == NOT_AUTHORIZED, topic
    assert mine.publish(UP.format("cart-1"), "true") == 0
    assert headquarters.publish(UP.format("cart-1"), "forged") == NOT_AUTHORIZED
    assert headquarters.publish(DOWN.format("cart-2"), "for cart-2") == 0
    wait_for(lambda: headquarters.received and other.received)
    assert mine.publish(UP.format("cart-1"), "last") == 0  # in order: anything else would have come before
    wait_for(lambda: len(headquarters.received) == 2)
    # Everyone asked for '#', and got what is theirs.
    assert headquarters.received == [(UP.format("cart-1"), b"true"), (UP.format("cart-1"), b"last")]
    assert other.received == [(DOWN.format("cart-2"), b"for cart-2")]
    assert mine.received == []


def test_one_cart_cannot_take_another_s_session(clinic, party):
    """Both ask for the same client id; the broker goes by the certificate, and neither is pushed out."""
    mine, other = party("cart-1"), party("cart-2")
    assert mine.publish(UP.format("cart-1")) in (0, 0x10)
    assert other.publish(UP.format("cart-2")) in (0, 0x10)


def test_a_revoked_cart_is_refused_after_a_reload_and_its_replacement_is_not(clinic, party):
    assert party("cart-1").admitted
    stolen = _context(**clinic.tls("cart-1"))
    clinic.revoke("cart-1")
    clinic.broker.reload()
    wait_for(lambda: not party(stolen).admitted)
    assert party("cart-2").admitted
    clinic.keys.issue(clinic.site, "cart-1", 825, None)
    assert party("cart-1").admitted


@pytest.mark.parametrize("case", ["expired", "foreign", "none", "server's"])
def test_a_certificate_that_proves_nothing_is_refused(clinic, party, tmp_path, case):
    now = datetime.now(timezone.utc)
    keys = clinic.keys.path
    own = Authority((keys / "ca.pem").read_bytes(), (keys / "ca.key").read_bytes(), None)
    if case == "expired":
        context = _issued(clinic, tmp_path, own, now - timedelta(hours=1))
    elif case == "foreign":
        made = Authority.create("clinic", now, None)
        foreign = Authority(made.certificate, made.key, None)
        context = _issued(clinic, tmp_path, foreign, now + timedelta(days=9))
    elif case == "none":
        context = _context(clinic.tls("cart-1")["ca"])
    else:
        context = _context(**clinic.tls("broker"))
    assert not party(context).admitted
    good = _issued(clinic, tmp_path, own, now + timedelta(days=9))
    assert party(good).admitted, "the way of issuing is not what was refused"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_plain_text_and_old_tls_are_refused(clinic, party):
    assert not party(None).admitted
    old = _context(**clinic.tls("cart-1"))
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", clinic.broker.port), 5) as sock,
        pytest.raises(ssl.SSLError, match=r"(?i)protocol version"),
    ):
        old.wrap_socket(sock, server_hostname="127.0.0.1")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        new = _context(**clinic.tls("cart-1"))
        new.minimum_version = new.maximum_version = version
        assert party(new).admitted


def test_a_broker_of_another_site_or_name_is_refused_and_told(clinic, device, tmp_path):
    made = Authority.create("clinic", datetime.now(timezone.utc), None)
    (tmp_path / "foreign.pem").write_bytes(made.certificate)
    port = clinic.broker.port
    tls = clinic.tls("cart-1")
    connection, _, changes = device(Broker("127.0.0.1", port, **tls | {"ca": tmp_path / "foreign.pem"}))
    wait_for(lambda: changes)
    assert not connection.online and "certificate verify failed" in changes[0][1]
    connection, _, changes = device(Broker("localhost", port, **tls))
    wait_for(lambda: changes)
    assert not connection.online and "match" in changes[0][1].lower()


def test_a_broker_whose_certificate_ended_before_the_floor_is_refused_whatever_the_clock_says(clinic, device):
    late = datetime.now(timezone.utc) + timedelta(days=826)
    connection, _, changes = device(
        Broker("127.0.0.1", clinic.broker.port, **clinic.tls("cart-1"), floor=lambda: late)
    )
    wait_for(lambda: changes)
    assert not connection.online and "ended on" in changes[0][1]
    early = late - timedelta(days=2)
    connection, _, _ = device(
        Broker("127.0.0.1", clinic.broker.port, **clinic.tls("cart-1"), floor=lambda: early)
    )
    wait_for(lambda: connection.online)
