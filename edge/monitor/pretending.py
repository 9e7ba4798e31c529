"""Simulated carts on a real broker."""

from __future__ import annotations

import threading
import time
import uuid
from random import Random

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.errors import ScanwrightError
from edge.monitor import simulated
from edge.mqtt.broker import Broker

__all__ = ["pretend"]

_CONNECT_S = 10.0
_HEALTH_S = 60.0
_RETAINED = ("/up/birth", "/up/availability")


def pretend(broker: Broker, n: int, every_s: float, stop: threading.Event) -> int:
    """Have ``n`` carts introduce themselves, then find something every ``every_s`` seconds until ``stop``,
    and take their retained messages back. How many messages were sent.

    Raises:
        BadInputError: a TLS file is missing or is not one.
        ScanwrightError: the broker cannot be reached.
    """
    client = Client(
        CallbackAPIVersion.VERSION2,
        f"scanwright-simulated-{uuid.uuid4().hex[:12]}",
        protocol=MQTTProtocolVersion.MQTTv5,
    )
    broker.secure(client)
    client.max_queued_messages_set(0)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    try:
        client.connect(broker.host, broker.port, broker.keepalive_s)
    except OSError as error:
        why = error.strerror or error
        raise ScanwrightError(f"broker {broker.host}:{broker.port}: cannot be reached ({why})") from error
    client.loop_start()
    if not connected.wait(_CONNECT_S):
        raise ScanwrightError(f"broker {broker.host}:{broker.port}: does not answer")
    chance, sent = Random(1), 0
    carts = dict(enumerate(simulated.carts(n), start=1))

    def say(topic: str, payload: bytes) -> None:
        nonlocal sent
        client.publish(topic, payload, qos=1, retain=topic.endswith(_RETAINED))
        sent += 1

    try:
        for number, cart in carts.items():
            for said in simulated.hello(number, cart, chance):
                say(*said)
        told = time.monotonic()
        while not stop.wait(every_s):
            for said in simulated.found(chance.choice(list(carts.values())), chance):
                say(*said)
            if time.monotonic() - told >= _HEALTH_S:
                told = time.monotonic()
                for number, cart in carts.items():
                    say(*simulated.health(number, cart, chance))
    finally:
        for cart in carts.values():
            for topic in (cart.topics.availability, cart.topics.birth):
                client.publish(topic, b"", qos=1, retain=True).wait_for_publish(5)
        client.disconnect()
        client.loop_stop()
    return sent
