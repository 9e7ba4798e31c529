"""The configuration of a running agent is changed: no frame is lost, and a bad one leaves what worked."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import Counter

import pytest

from edge.agent.order import order
from edge.mqtt.broker import Broker
from edge.mqtt.topics import Topics
from tests.integration.carts import Cart
from tests.integration.conftest import free_port, wait_for

pytestmark = pytest.mark.integration


def reload(cart: Cart) -> None:
    assert cart.path and cart.process
    cart.process.send_signal(signal.SIGHUP)


def codes(watcher) -> Counter[str]:
    return Counter(event["code"] for event in watcher.json("/up/event"))


def test_reloads_while_frames_arrive_lose_none_and_tell_none_twice(mosquitto, subscriber, make_cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    cart: Cart = make_cart(broker.port)
    cart.start()
    wait_for(lambda: watcher.topics("/up/birth"))
    fed, done = 0, threading.Event()

    def feed() -> None:
        nonlocal fed
        while not done.is_set() and fed < 150:
            cart.feed(fed)
            fed += 1
            time.sleep(0.05)

    feeding = threading.Thread(target=feed)
    feeding.start()
    pid = cart.process.pid
    for round_ in range(4):
        cart.config["health_s"] = 0.5 + round_
        reload(cart)
        wait_for(lambda round_=round_: len(watcher.topics("/up/birth")) >= round_ + 2)
    # Another source beside it, and a folder of its own for the first.
    (cart.folder / "more").mkdir()
    cart.config["sources"] = [
        {"kind": "folder", "path": "drop", "poll_s": 0.02, "settle_s": 0.1},
        {"kind": "folder", "name": "more", "path": "more", "poll_s": 0.05, "settle_s": 0.1},
    ]
    reload(cart)
    wait_for(lambda: len(watcher.topics("/up/birth")) >= 6)
    done.set()
    feeding.join()
    cart.drop = cart.folder / "more"
    cart.feed(1000)
    wait_for(lambda: len({f["id"] for f in watcher.findings()}) == fed + 1)
    time.sleep(0.3)
    assert cart.process.poll() is None and cart.process.pid == pid
    told = Counter(f["id"] for f in watcher.findings() if not f["backfill"])
    assert set(told.values()) == {1}
    assert {f["source"] for f in watcher.findings()} == {"folder", "more"}
    counted = order(Broker("127.0.0.1", broker.port), Topics("clinic", "cart-1"), "status", {}, 60).result
    assert counted["findings"] == fed + 1
    assert cart.end() == 0


def test_a_configuration_that_cannot_be_used_leaves_the_one_that_works(mosquitto, subscriber, make_cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    cart: Cart = make_cart(broker.port)
    cart.start()
    wait_for(lambda: watcher.topics("/up/birth"))
    good = dict(cart.config)
    cart.config["helth_s"] = 3
    reload(cart)
    wait_for(lambda: codes(watcher)["reload_refused"] == 1)
    del cart.config["helth_s"]
    cart.config["bundles"] = ["tiny.swb", "missing.swb"]
    reload(cart)
    wait_for(lambda: codes(watcher)["reload_refused"] == 2)
    said = [event["message"] for event in watcher.json("/up/event") if event["code"] == "reload_refused"]
    assert "did you mean 'health_s'" in said[0] and "missing.swb" in said[1]
    cart.config = good
    cart.feed(1)
    wait_for(lambda: watcher.findings())
    assert cart.end() == 0


def test_a_dicom_receiver_keeps_its_port_and_its_connections_over_a_reload(mosquitto, subscriber, make_cart):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    cart: Cart = make_cart(broker.port)
    port = free_port()
    cart.config["sources"].append({"kind": "dicom", "host": "127.0.0.1", "port": port, "callers": ["US"]})
    cart.start()

    def connected() -> socket.socket | None:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1)
        except OSError:
            return None

    connection = wait_for(connected)
    cart.config["health_s"] = 7
    reload(cart)
    wait_for(lambda: len(watcher.topics("/up/birth")) >= 2)
    connection.setblocking(False)
    with pytest.raises(BlockingIOError):  # neither closed nor said anything
        connection.recv(1)
    connection.close()
    assert not codes(watcher)["source_lost"]
    assert cart.end() == 0
