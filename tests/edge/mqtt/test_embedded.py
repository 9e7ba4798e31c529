"""The embedded broker: messages pass, a taken port is named, and stopping frees the port."""

from __future__ import annotations

import queue
import socket

import paho.mqtt.client as mqtt
import pytest

from edge.errors import ScanwrightError
from edge.mqtt.embedded import EmbeddedBroker


def _client(broker: EmbeddedBroker, name: str) -> mqtt.Client:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv311)
    client.connect(broker.host, broker.port)
    client.loop_start()
    return client


def test_a_message_goes_from_one_client_to_another_and_a_retained_one_waits() -> None:
    got: queue.Queue[tuple[str, bytes]] = queue.Queue()
    with EmbeddedBroker() as broker:
        sender = _client(broker, "sender")
        sender.publish("scanwright/a/b/up/birth", b"born", qos=1, retain=True).wait_for_publish(30)
        receiver = _client(broker, "receiver")
        receiver.on_message = lambda c, u, m: got.put((m.topic, m.payload))
        receiver.subscribe("scanwright/#", qos=1)
        assert got.get(timeout=30) == ("scanwright/a/b/up/birth", b"born")
        sender.publish("scanwright/a/b/up/finding", b"{}", qos=1)
        assert got.get(timeout=30) == ("scanwright/a/b/up/finding", b"{}")
        for client in (sender, receiver):
            client.disconnect()
            client.loop_stop()


def test_it_listens_on_loopback_only_and_frees_the_port_when_stopped() -> None:
    broker = EmbeddedBroker()
    port = broker.start()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        assert connection.getpeername()[0] == "127.0.0.1"
    # 127.0.0.2 is this machine too: were the broker on all addresses, it would answer there.
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", port), timeout=1)
    broker.stop()
    broker.stop()
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ScanwrightError, match=rf"127\.0\.0\.1:{port} .*choose another port"):
            EmbeddedBroker(port).start()
