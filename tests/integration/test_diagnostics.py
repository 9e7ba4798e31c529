"""How headquarters looks after a cart over a real broker: it shows itself, tests itself, gives its log."""

from __future__ import annotations

from typing import Any
from urllib.request import urlopen

import pytest

from edge.agent.order import order as send
from edge.mqtt.broker import Broker
from edge.mqtt.payloads import Response
from edge.mqtt.topics import Topics
from tests.integration.carts import PATIENT, Cart
from tests.integration.conftest import free_port, wait_for

pytestmark = pytest.mark.integration


def order(cart: Cart, name: str, **arguments: Any) -> Response:
    broker = Broker("127.0.0.1", cart.config["mqtt"]["port"])
    return send(broker, Topics("clinic", "cart-1"), name, arguments, 60)


@pytest.fixture
def running(mosquitto, subscriber, make_cart):
    """``running(*mosquitto's lines, **changes)``: a cart that has said its birth, and who hears it."""

    def start(*lines: str, **changes: Any) -> Cart:
        broker = mosquitto(*lines)
        broker.start()
        watcher = subscriber(broker.port)
        cart: Cart = make_cart(broker.port)
        cart.config |= changes
        cart.start()
        wait_for(lambda: watcher.json("/up/birth"))
        return cart

    return start


def test_identify_shows_the_carts_name_on_its_screen_for_so_long(running):
    port = free_port()
    cart = running(screen={"port": port})

    def shown() -> bool:
        with urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
            return 'class="identify"' in page.read().decode()

    assert not shown()
    for wrong in (0, "long", True, 601):
        assert "seconds" in str(order(cart, "identify", seconds=wrong).error)
    assert order(cart, "identify").result == {"seconds": 30.0}
    assert shown()
    assert order(cart, "identify", seconds=1).ok
    wait_for(lambda: not shown())


def test_a_cart_without_a_screen_refuses_to_identify_itself(running):
    refused = order(running(), "identify")
    assert not refused.ok and "no screen" in str(refused.error)


def test_selftest_replays_the_bundles_on_the_disk_and_asks_each_source(running):
    cart = running()
    assert order(cart, "selftest").result == {"pass": True, "checks": 2, "failed": ""}
    cart.drop.rename(cart.folder / "gone")
    path = cart.folder / "tiny.swb"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)

    def failed() -> str:
        return str(order(cart, "selftest").result["failed"])

    wait_for(lambda: "FAIL  source folder" in failed())
    assert "FAIL  bundles  " in failed() and "tiny.swb" in failed()
    (cart.folder / "gone").rename(cart.drop)
    wait_for(lambda: "source" not in failed())
    # What is at work is what was opened and proven: it goes on.
    cart.feed(1)
    wait_for(lambda: order(cart, "status").result["findings"] == 1)


def test_the_log_comes_newest_last_in_no_more_than_a_packet_and_names_nobody(running):
    cart = running("max_packet_size 6000")
    cart.feed(*range(30))
    wait_for(lambda: order(cart, "status").result["findings"] == 30)
    answer = order(cart, "log", lines=5).result
    lines = str(answer["log"]).splitlines()
    assert answer["lines"] == len(lines) == 5
    written = [line for line in cart.log.read_text().splitlines() if line.startswith("{")]
    at = written.index(lines[-1])
    assert written[at - 4 : at + 1] == lines
    assert at >= len(written) - 3  # newest: only what the command itself had written is later
    everything = order(cart, "log", lines=1000)
    assert 5 < int(everything.result["lines"]) < 60  # type: ignore[arg-type]
    assert 4000 < len(everything.model_dump_json()) < 6000
    assert PATIENT not in everything.model_dump_json()
    assert "lines" in str(order(cart, "log", lines=0).error)
