"""The connection between a real outbox and a real mosquitto."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.agent.database import Database
from edge.agent.outbox import Outbox, set_aside
from edge.mqtt.broker import Broker
from edge.mqtt.connection import Connection
from edge.mqtt.topics import Topics
from tests.integration.conftest import Mosquitto, Subscriber, free_port, wait_for

pytestmark = pytest.mark.integration

TOPICS = Topics("clinic", "cart-1")


class Device:
    """A connection with its outbox, and what it told its owner."""

    def __init__(self, path: Path, port: int, receipts: bool = False, **broker: Any) -> None:
        self.database = Database(path)
        self.outbox = Outbox(self.database)
        self.changes: list[tuple[bool, str]] = []
        self.commands: list[tuple[str, bytes]] = []
        self.refused: list[tuple[str, str, int]] = []
        self.connection = Connection(
            Broker("127.0.0.1", port, **broker),
            TOPICS,
            self.outbox,
            receipts=receipts,
            birth=lambda: b'{"birth":true}',
            command=self._command,
            changed=lambda online, why: self.changes.append((online, why)),
            refused=self._refused,
        )
        self.database.watch(self.connection.wake)

    def _command(self, name: str, payload: bytes) -> bytes:
        self.commands.append((name, payload))
        return b'{"ok":true}'

    def _refused(self, kind: str, id_: str, _size: int, largest: int) -> None:
        self.refused.append((kind, id_, largest))
        self.database.write(lambda connection: set_aside(connection, id_, largest))

    def find(self, *numbers: int) -> list[str]:
        """Put findings durably; their ids."""
        ids = [f"{number:032x}" for number in numbers]
        for future in [
            self.outbox.put(
                "finding",
                i,
                TOPICS.finding,
                json.dumps({"id": i, "backfill": False}, separators=(",", ":")).encode(),
            )
            for i in ids
        ]:
            future.result()
        return ids

    def waiting(self) -> int:
        return self.outbox.counts()["finding"]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Callable[..., Device]]:
    made: list[Device] = []

    def make(port: int, **options: Any) -> Device:
        made.append(Device(tmp_path / "outbox.db", port, **options))
        return made[-1]

    yield make
    for one in made:
        one.connection.stop(2)
        one.database.close()


def test_says_online_and_birth_retained_and_offline_at_a_clean_stop(mosquitto, subscriber, device):
    broker: Mosquitto = mosquitto()
    broker.start()
    cart = device(broker.port)
    cart.connection.start()
    wait_for(lambda: cart.connection.online)
    watcher: Subscriber = subscriber(broker.port)  # late: only what is retained reaches it
    wait_for(lambda: watcher.topics("/up/birth") and watcher.topics("/up/availability"))
    assert watcher.topics("/up/availability") == [b"online"]
    cart.connection.stop(5)
    wait_for(lambda: watcher.topics("/up/availability") == [b"online", b"offline"])
    assert cart.changes == [(True, "")]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_every_finding_arrives_once_and_leaves_the_outbox(mosquitto, subscriber, device, protocol):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    cart = device(broker.port, protocol=protocol)
    early = cart.find(*range(50))
    cart.connection.start()
    wait_for(lambda: cart.connection.online)
    late = cart.find(*range(100, 150))
    wait_for(lambda: cart.waiting() == 0)
    wait_for(lambda: len(watcher.findings()) == 100)
    assert [finding["id"] for finding in watcher.findings()] == early + late
    assert [finding["backfill"] for finding in watcher.findings()] == [True] * 50 + [False] * 50


def test_without_a_subscriber_a_finding_stays_until_one_comes(mosquitto, subscriber, device):
    broker = mosquitto()
    broker.start()
    cart = device(broker.port)
    cart.connection.start()
    wait_for(lambda: cart.connection.online)
    ids = cart.find(*range(30))
    cart.outbox.put("event", "e" * 32, TOPICS.event, b"{}").result()
    wait_for(lambda: cart.outbox.counts()["event"] == 0)
    assert cart.waiting() == 30
    watcher = subscriber(broker.port)
    wait_for(lambda: cart.waiting() == 0)
    wait_for(lambda: {finding["id"] for finding in watcher.findings()} == set(ids))


def test_with_receipts_only_an_ack_lets_a_finding_go(mosquitto, subscriber, device):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    cart = device(broker.port, receipts=True)
    cart.connection.start()
    ids = cart.find(*range(40))
    wait_for(lambda: len(watcher.findings()) == 40)
    watcher.publish(TOPICS.ack, b"not an ack")
    watcher.publish(TOPICS.ack, json.dumps({"ids": ids[5:]}))
    wait_for(lambda: cart.waiting() == 5)
    # Those without a receipt come again at the next connect, and say that they are late.
    cart.connection.stop(5)
    cart.database.close()
    again = device(broker.port, receipts=True)
    again.connection.start()
    wait_for(lambda: len(watcher.findings()) == 45)
    assert [(f["id"], f["backfill"]) for f in watcher.findings()[40:]] == [(i, True) for i in ids[:5]]


def test_a_killed_broker_costs_nothing(mosquitto, subscriber, device):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    cart = device(broker.port, receipts=True)
    cart.connection.start()
    ids = cart.find(*range(300))
    wait_for(lambda: len(watcher.findings()) > 20)
    broker.kill()
    ids += cart.find(*range(1000, 1100))
    wait_for(lambda: cart.changes[-1:] and not cart.changes[-1][0])
    broker.start()

    def acknowledge() -> bool:
        seen = {finding["id"] for finding in watcher.findings()}
        watcher.publish(TOPICS.ack, json.dumps({"ids": sorted(seen)}))
        return seen == set(ids)

    wait_for(acknowledge, 30)
    wait_for(lambda: cart.waiting() == 0)
    assert [online for online, _ in cart.changes] == [True, False, True]


def test_findings_overtake_events_and_overlays(mosquitto, subscriber, device):
    broker = mosquitto()
    watcher_ready: list[str] = []
    cart = device(broker.port)
    for number in range(30):
        cart.outbox.put("overlay", f"overlay/{number}", TOPICS.overlay(str(number)), b"png")
        cart.outbox.put("event", f"event-{number}", TOPICS.event, b"{}")
    cart.find(*range(30))
    broker.start()
    watcher = subscriber(broker.port)
    cart.connection.start()
    wait_for(lambda: len(watcher.messages) >= 92)
    for topic, _ in watcher.messages:
        kind = topic.split("/")[4]
        if kind in ("finding", "event", "overlay") and kind not in watcher_ready:
            watcher_ready.append(kind)
    assert watcher_ready == ["finding", "event", "overlay"]


def test_never_more_in_flight_than_the_broker_takes(mosquitto, subscriber, device):
    broker = mosquitto("max_inflight_messages 3")
    broker.start()
    watcher = subscriber(broker.port)
    cart = device(broker.port)
    ids = cart.find(*range(200))
    cart.connection.start()
    most = 0

    def done() -> bool:
        nonlocal most
        most = max(most, len(cart.connection._in_flight))
        return cart.waiting() == 0

    wait_for(done)
    assert cart.connection._window == 3
    assert most <= 3
    wait_for(lambda: [finding["id"] for finding in watcher.findings()] == ids)


def _large(cart: Device) -> None:
    payload = b'{"id":"large","x":"' + b"x" * 5000 + b'"}'
    cart.outbox.put("finding", "f" * 32, TOPICS.finding, payload).result()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_message_larger_than_the_broker_takes_is_set_aside_and_blocks_nothing(
    mosquitto, subscriber, device, protocol, monkeypatch
):
    monkeypatch.setattr("edge.mqtt.connection._RETRY_S", (0.05, 0.2))
    broker = mosquitto("max_packet_size 2000")
    broker.start()
    watcher = subscriber(broker.port)
    cart = device(broker.port, protocol=protocol)
    early = cart.find(*range(5))
    _large(cart)
    ids = early + cart.find(*range(5, 20))
    cart.connection.start()
    # With 3.1.1 the broker names no limit and breaks off: what it had may come again.
    wait_for(lambda: set(ids) == {finding["id"] for finding in watcher.findings()}, 30)
    wait_for(lambda: cart.waiting() == 0)
    assert cart.outbox.aside()["finding"] == 1
    assert cart.refused == [("finding", "f" * 32, 2000 if protocol == "5" else 0)]
    told = len(watcher.findings())
    cart.connection.wake()
    time.sleep(0.5)
    assert cart.connection.online and len(watcher.findings()) == told


def test_what_was_set_aside_is_sent_once_the_broker_takes_it(mosquitto, subscriber, device):
    broker = mosquitto("max_packet_size 2000")
    broker.start()
    cart = device(broker.port)
    _large(cart)
    cart.connection.start()
    wait_for(lambda: cart.outbox.aside()["finding"] == 1)
    broker.kill()
    broker.configure(f"listener {broker.port} 127.0.0.1\nallow_anonymous true")
    broker.start()
    watcher = subscriber(broker.port)
    wait_for(lambda: [finding["id"] for finding in watcher.findings()] == ["large"], 40)
    wait_for(lambda: cart.outbox.aside()["finding"] == cart.waiting() == 0)


def test_commands_are_answered_and_retained_ones_are_not(mosquitto, subscriber, device):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    watcher.publish(TOPICS.command("old"), b"{}", retain=True)
    cart = device(broker.port)
    cart.connection.start()
    wait_for(lambda: cart.connection.online)
    watcher.publish(TOPICS.command("ping"), b"{}")
    wait_for(lambda: watcher.json("/up/response/ping") == [{"ok": True}])
    assert cart.commands == [("ping", b"{}")]


def test_commands_given_while_away_are_kept_by_the_broker(mosquitto, subscriber, device):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    cart = device(broker.port)
    cart.connection.start()
    wait_for(lambda: watcher.topics("/up/birth"))
    cart.connection.stop(5)
    cart.database.close()
    watcher.publish(TOPICS.command("ping"), b"{}")
    again = device(broker.port)
    again.connection.start()
    wait_for(lambda: watcher.json("/up/response/ping") == [{"ok": True}])


def test_health_is_told_while_connected_and_only_the_latest_after_a_silence(mosquitto, subscriber, device):
    broker = mosquitto()
    cart = device(broker.port)
    cart.connection.start()
    wait_for(lambda: cart.changes and not cart.changes[0][0])
    for number in range(5):
        cart.connection.say(TOPICS.health, str(number).encode())
    broker.start()
    watcher = subscriber(broker.port)
    wait_for(lambda: cart.connection.online)
    wait_for(lambda: watcher.topics("/up/health"))
    cart.connection.say(TOPICS.health, b"5")
    wait_for(lambda: watcher.topics("/up/health") == [b"4", b"5"])


def test_a_refused_password_is_told_once_with_the_broker_s_reason(mosquitto, device, tmp_path):
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    broker = mosquitto(f"password_file {passwords}", "allow_anonymous false")
    broker.start()
    cart = device(broker.port, username="cart-1", password="wrong")
    cart.connection.start()
    wait_for(lambda: cart.changes)
    online, why = cart.changes[0]
    assert not online and "refused" in why and "wrong" not in why


def test_mutual_tls_carries_everything_and_a_wrong_authority_is_refused(
    mosquitto, subscriber, device, tmp_path
):
    ca, other = _authority(tmp_path / "ca"), _authority(tmp_path / "other")
    plain = free_port()
    broker = mosquitto(
        f"cafile {ca / 'ca.pem'}",
        f"certfile {ca / 'leaf.pem'}",
        f"keyfile {ca / 'leaf.key'}",
        "require_certificate true",
        f"listener {plain} 127.0.0.1",
    )
    broker.start()
    watcher = subscriber(plain)
    files = {"certificate": ca / "leaf.pem", "key": ca / "leaf.key"}
    stranger = device(broker.port, ca=other / "ca.pem", **files)
    ids = stranger.find(*range(100))
    stranger.connection.start()
    wait_for(lambda: stranger.changes)
    assert not stranger.changes[0][0] and not stranger.connection.online
    stranger.connection.stop(1)
    stranger.database.close()
    cart = device(broker.port, ca=ca / "ca.pem", **files)
    cart.connection.start()
    wait_for(lambda: [finding["id"] for finding in watcher.findings()] == ids)
    wait_for(lambda: cart.waiting() == 0)


def _authority(folder: Path) -> Path:
    """A certificate authority with one certificate, for both ends at 127.0.0.1."""
    folder.mkdir()
    sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for command in (
        ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority"],
        ["req", *key, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=cart-1"],
        ["x509", "-req", "-in", "leaf.csr", *sign, "-days", "2", "-extfile", "names", "-out", "leaf.pem"],
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return folder


def test_a_broker_that_stops_answering_does_not_hold_up_a_stop(mosquitto, device):
    broker = mosquitto()
    broker.start()
    cart = device(broker.port)
    cart.connection.start()
    wait_for(lambda: cart.connection.online)
    broker.freeze()
    cart.find(*range(30))
    start = time.monotonic()
    cart.connection.stop(2)
    assert time.monotonic() - start < 4
    assert cart.waiting() == 30
