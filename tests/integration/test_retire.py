"""A whole cart, over mutual TLS, from its first finding to its end, and another in its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.carts import Cart
from tests.integration.conftest import free_port, wait_for
from tests.integration.test_security import Clinic, Party, _context

pytestmark = pytest.mark.integration


def give_keys(cart: Cart, clinic: Clinic) -> None:
    files = {}
    for name, path in clinic.tls("cart-1").items():
        copy = cart.folder / path.name
        copy.write_bytes(path.read_bytes())
        files[name] = copy.name
    cart.config["mqtt"] |= {"tls": files}
    cart.config["health_s"] = 0.3


def everything_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_retired_cart_tells_all_and_leaves_nothing_and_another_takes_its_name(
    mosquitto, make_cart, tmp_path
):
    clinic = Clinic(tmp_path, mosquitto())
    port = clinic.broker.port
    clinic.broker.start()
    headquarters = Party(port, _context(**clinic.tls("headquarters")))

    def heard(end: str) -> list[dict[str, object]]:
        return [json.loads(p) for topic, p in list(headquarters.received) if topic.endswith(end) and p]

    cart = make_cart(port)
    give_keys(cart, clinic)
    cart.start()
    cart.feed(1, 2, 3)
    wait_for(lambda: len(heard("/up/finding")) == 3)
    wait_for(lambda: heard("/up/health"))
    assert 820 < float(str(heard("/up/health")[-1]["certificate_days"])) < 826
    running = cart.command("retire", "--yes")
    assert running.returncode == 1 and "in use by another agent" in running.stderr
    assert cart.end() == 0
    audited = cart.command("audit")
    assert audited.returncode == 0 and "  start  " in audited.stdout and "  stop\n" in audited.stdout

    headquarters.close()
    clinic.broker.kill()
    cart.start()
    cart.feed(4, 5)
    wait_for(lambda: cart.waiting() == 2)
    assert cart.end() == 0
    before = everything_in(cart.folder / "state")
    refused = cart.command("retire", "--yes", "--wait", "1")
    assert refused.returncode == 1 and "2 findings are not delivered" in refused.stderr
    assert set(before) - {Path(p) for p in before if "agent.db-" in p.name} <= set(
        everything_in(cart.folder / "state")
    )

    clinic.broker.start()
    headquarters = Party(port, _context(**clinic.tls("headquarters")))
    done = cart.command("retire", "--yes", "--wait", "20")
    assert done.returncode == 0, done.stderr
    wait_for(lambda: len(heard("/up/finding")) == 2)
    wait_for(lambda: "retired" in [event["code"] for event in heard("/up/event")])
    assert "broker was not told" not in done.stdout
    assert everything_in(cart.folder / "state") == []
    assert not (cart.folder / "key.pem").exists() and not (cart.folder / "certificate.pem").exists()
    headquarters.close()
    late = Party(port, _context(**clinic.tls("headquarters")))
    assert late.publish("scanwright/clinic/cart-1/down/ack") in (0, 0x10)
    assert [topic for topic, payload in late.received if payload] == [], "something is retained still"

    clinic.revoke("cart-1")
    clinic.keys.issue(clinic.site, "cart-1", 825, None)
    replacement = make_cart(port)
    give_keys(replacement, clinic)
    replacement.start()
    replacement.feed(1)
    headquarters = late
    wait_for(lambda: len(heard("/up/finding")) == 1)
    assert heard("/up/birth")[-1]["device"] == "cart-1"
    assert replacement.end() == 0
    late.close()


def test_a_cart_that_reaches_nobody_is_wiped_only_with_the_word_for_it(make_cart):
    cart = make_cart(free_port())
    cart.start()
    cart.feed(1)
    wait_for(lambda: cart.waiting() == 1)
    assert cart.end() == 0
    assert cart.command("retire", "--yes", "--wait", "0").returncode == 1
    assert cart.waiting() == 1
    done = cart.command("retire", "--yes", "--wait", "0", "--discard-undelivered")
    assert done.returncode == 0, done.stderr
    assert (
        "lost: 1 findings" in done.stdout
        and "clear scanwright/clinic/cart-1/up/birth"
        in done.stdout.replace("scanwright/clinic/cart-1/up/availability and ", "")
    )
    assert everything_in(cart.folder / "state") == []
    assert cart.command("retire", "--yes").returncode == 0, "done again it finds nothing and is content"
