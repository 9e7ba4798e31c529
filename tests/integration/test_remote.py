"""Settings changed over MQTT, the ways back, and a link that may carry only so much."""

from __future__ import annotations

import json
import signal
from collections import Counter
from typing import Any

import pytest

from edge.agent.order import order as send
from edge.mqtt.broker import Broker
from edge.mqtt.payloads import Response
from edge.mqtt.topics import Topics
from tests.integration.carts import Cart
from tests.integration.conftest import Subscriber, wait_for

pytestmark = pytest.mark.integration


def order(cart: Cart, name: str, **arguments: Any) -> Response:
    """Send a command as headquarters does, and wait for its answer."""
    broker = Broker("127.0.0.1", cart.config["mqtt"]["port"])
    return send(broker, Topics("clinic", "cart-1"), name, arguments, 60)


def codes(watcher: Subscriber) -> Counter[str]:
    return Counter(event["code"] for event in watcher.json("/up/event"))


def births(watcher: Subscriber) -> list[dict[str, Any]]:
    return watcher.json("/up/birth")


@pytest.fixture
def running(mosquitto, subscriber, make_cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    cart: Cart = make_cart(broker.port)
    cart.start()
    wait_for(lambda: births(watcher))
    return cart, watcher


def test_a_threshold_is_moved_from_afar_named_on_each_finding_and_taken_back(running):
    cart, watcher = running
    for arguments, words in (
        ({"thresholds.lesion": 0.9, "policy": "night"}, "outside what the bundle allows, 0.2 to 0.8"),
        ({"thresholds.tumour": 0.5, "policy": "night"}, "no bundle has a threshold"),
        ({"mqtt.host": "evil.example"}, "cannot be changed from afar"),
        ({}, "nothing would change"),
    ):
        refused = order(cart, "configure", **arguments)
        assert not refused.ok and words in str(refused.error)
    assert order(cart, "settings").result == {"revision": 0, "trial": False}

    changed = order(cart, "configure", **{"thresholds.lesion": 0.8, "policy": "night"})
    assert changed.ok and changed.result["revision"] == 1 and changed.result["confirm_within_s"] == 600
    wait_for(lambda: births(watcher)[-1]["settings_revision"] == 1)
    assert births(watcher)[-1]["settings_trial"]
    cart.feed(1)
    finding = wait_for(watcher.findings)[0]
    assert finding["policy"] == "night" and finding["thresholds"] == {"lesion": 0.8}
    assert not order(cart, "confirm", revision=7).ok
    assert order(cart, "confirm", revision=1).ok

    assert order(cart, "revert").ok
    wait_for(lambda: births(watcher)[-1]["settings_revision"] == 2)
    cart.feed(3)
    wait_for(lambda: len(watcher.findings()) == 2)
    assert watcher.findings()[1]["policy"] is None
    assert watcher.findings()[1]["thresholds"] == {"lesion": 0.5}
    assert cart.end() == 0
    assert codes(watcher)["settings_confirmed"] == codes(watcher)["settings_reverted"] == 1
    assert {"settings", "settings_confirmed", "settings_reverted"} <= audit(cart)


def audit(cart: Cart) -> set[str]:
    entries = json.loads(cart.command("audit", "--json").stdout)["entries"]
    return {entry["kind"] for entry in entries}


def test_settings_that_an_agent_does_not_survive_do_not_outlive_it(running):
    cart, watcher = running
    assert order(cart, "configure", health_s=1.0).ok
    wait_for(lambda: births(watcher)[-1]["settings_revision"] == 1)
    cart.end(signal.SIGKILL)
    cart.start()
    wait_for(lambda: births(watcher)[-1]["settings_revision"] == 2)
    assert not births(watcher)[-1]["settings_trial"]
    wait_for(lambda: codes(watcher)["settings_reverted"] == 1)
    assert order(cart, "settings").result == {"revision": 2, "trial": False}
    # Confirmed ones do.
    assert order(cart, "configure", health_s=1.0).ok
    wait_for(lambda: births(watcher)[-1]["settings_revision"] == 3)
    assert order(cart, "confirm", revision=3).ok
    cart.end(signal.SIGKILL)
    cart.start()
    wait_for(lambda: births(watcher)[-1]["started"] > births(watcher)[-2]["started"])
    assert order(cart, "settings").result == {"health_s": 1.0, "revision": 3, "trial": False}
    assert cart.end() == 0


def test_a_metered_link_carries_findings_first_and_no_more_than_its_cap(mosquitto, subscriber, make_cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    cart: Cart = make_cart(broker.port)
    cap = 200_000
    cart.config["mqtt"] |= {"metered_bytes_a_day": cap}
    cart.config |= {"overlays": "always", "health_s": 0.5}
    cart.start()
    wait_for(lambda: births(watcher))
    cart.feed(*range(170))
    wait_for(lambda: cart.waiting() > 0 and codes_of(cart)["metered_link_spent"] == 1, 60)
    told = len(watcher.findings())
    heard = sum(len(topic) + len(payload) for topic, payload in watcher.messages)
    assert 20 < told < 170 and cap / 3 < heard < cap
    # What is left keeps the connection, so that headquarters can raise the cap.
    assert order(cart, "configure", metered_bytes_a_day=50_000_000).ok
    wait_for(lambda: len({f["id"] for f in watcher.findings()}) == 170, 60)
    wait_for(lambda: codes(watcher)["metered_link_spent"] == 1)
    wait_for(lambda: watcher.json("/up/health")[-1]["metered_bytes"] > cap)
    assert cart.end() == 0


def codes_of(cart: Cart) -> Counter[str]:
    """Of the events in the cart's log."""
    lines = [line for line in cart.log.read_text().splitlines() if line.startswith("{")]
    return Counter(json.loads(line).get("code") for line in lines)
