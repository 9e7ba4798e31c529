"""A real cart tells Home Assistant of itself, and takes that back when it retires."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.mqtt.topics import Topics
from tests.integration.conftest import wait_for

pytestmark = pytest.mark.integration

TOPIC = "homeassistant/device/scanwright-clinic/cart-1/config"
TOPICS = Topics("clinic", "cart-1")


def introduced(cart: Any) -> None:
    cart.config["mqtt"] |= {"discovery_prefix": "homeassistant"}
    cart.config["health_s"] = 1


def test_a_cart_introduces_itself_for_whoever_comes_later_until_it_retires(mosquitto, subscriber, make_cart):
    broker = mosquitto()
    broker.start()
    cart = make_cart(broker.port)
    introduced(cart)
    early = subscriber(broker.port)
    cart.start()
    wait_for(lambda: early.topics(TOPIC))
    cart.feed(1)
    wait_for(early.findings)
    early.close()
    assert cart.end() == 0
    late = subscriber(broker.port)
    wait_for(lambda: late.topics(TOPICS.birth))
    (said,) = late.json(TOPIC)
    topics = {one["state_topic"] for one in said["components"].values()}
    assert topics == {TOPICS.availability, TOPICS.health, TOPICS.finding}
    retired = cart.command("retire", "--yes")
    assert retired.returncode == 0 and "was not told" not in retired.stdout, retired.stdout
    later = subscriber(broker.port)
    later.publish("end", b"")
    wait_for(lambda: later.topics("end"))
    assert [message for message in later.messages if message[1]] == []


def test_the_documented_line_of_the_access_list_lets_a_cart_introduce_itself_and_nobody_else(
    mosquitto, subscriber, tmp_path
):
    acl = tmp_path / "acl"
    broker = mosquitto(f"acl_file {acl}")
    page = (Path(__file__).parents[2] / "docs/how-to/home-assistant.md").read_text(encoding="utf-8")
    (line,) = (line for line in page.splitlines() if line.strip().startswith("pattern write homeassistant/"))
    acl.write_text(f"topic read #\ntopic write end\n{line.strip().replace('clinic-east', 'clinic')}\n")
    acl.chmod(0o600)
    broker.start()
    watcher = subscriber(broker.port)
    client = Client(CallbackAPIVersion.VERSION2, "cart-1", protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set("cart-1", "")
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for topic in (TOPIC, TOPIC.replace("cart-1", "cart-2")):
        client.publish(topic, b"{}", qos=1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()
    watcher.publish("end", b"")
    wait_for(lambda: watcher.topics("end"))
    assert [topic for topic, _ in watcher.messages] == [TOPIC, "end"]
