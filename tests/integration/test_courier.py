"""A cart that no network reaches: its updates come by stick, and its findings leave by it."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from click.testing import CliRunner
from releases import Releases
from sites import site_keys

from edge.monitor.courier_cli import courier
from tests.integration.carts import PATIENT, Cart
from tests.integration.conftest import free_port, wait_for

pytestmark = pytest.mark.integration


class Stick:
    """A folder that is mounted and unmounted by its name."""

    def __init__(self, folder: Path) -> None:
        self.away, self.mount = folder / "stick", folder / "media"
        self.away.mkdir()

    def plug(self, cart: Cart) -> None:
        self.away.rename(self.mount)

    def pull(self) -> None:
        self.mount.rename(self.away)

    def parcels(self) -> list[Path]:
        return sorted(self.mount.rglob("*.age")) if self.mount.exists() else []


def said(cart: Cart) -> Any:
    """What the cart's screen says of a stick."""
    port = cart.config["screen"]["port"]
    with urlopen(f"http://127.0.0.1:{port}/api/findings", timeout=10) as answer:
        return json.load(answer)["stick"]


def outbox(cart: Cart, kind: str) -> int:
    with closing(sqlite3.connect(f"file:{cart.folder}/state/agent.db?mode=ro", uri=True, timeout=5)) as store:
        return int(store.execute("SELECT count(*) FROM outbox WHERE kind = ?", (kind,)).fetchone()[0])


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(courier, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def cart(tmp_path, make_cart, tiny_bundle):
    """A cart with one bundle from the repository of a card, and no broker."""
    (tmp_path / "hq").mkdir()
    releases = Releases(tmp_path / "hq", tiny_bundle)
    releases.bundle("1.0.0")
    cart: Cart = make_cart(free_port())
    keys = site_keys().write(cart.folder / "keys")
    cart.config |= {
        "target": "raspberry-pi-5",
        "bundles": [{"slot": "tiny"}],
        "allow_unsigned": False,
        "screen": {"port": free_port()},
        "update": {
            "repositories": [str(releases.repository)],
            "root": str(releases.root),
            "health_s": 1,
            "slowdown": 50,
        },
        "courier": {"mount": str(tmp_path / "media"), "hq_key": "keys/hq.pub", "crl": "crl.pem"},
    }
    cart.config["mqtt"]["tls"] = {
        "ca": "keys/ca.pem",
        "certificate": "keys/certificate.pem",
        "key": "keys/key.pem",
    }
    cart.start()
    wait_for(lambda: cart.waiting() == 0)
    cart.releases, cart.keys = releases, keys
    # From now on only the stick reaches it.
    releases.hidden = releases.repository
    return cart


def test_a_site_is_carried_by_stick(tmp_path, cart):
    stick, keys, receipts = Stick(tmp_path), cart.keys, tmp_path / "receipts"
    cart.feed(*range(8))
    wait_for(lambda: cart.waiting() == 8)
    cart.releases.bundle("1.1.0")
    (tmp_path / "crl.pem").write_bytes(site_keys().revocations(7))
    export = ("export", stick.away, "--hq-key", keys / "hq.pub", "--receipts", receipts)
    export += ("--carts", "clinic/cart-1", "--repo", cart.releases.repository, "--crl", tmp_path / "crl.pem")
    run(*export)
    # The agent's own places are gone: what it takes is what the stick brought.
    cart.releases.repository.rename(tmp_path / "hidden")
    stick.plug(cart)
    wait_for(lambda: (found := said(cart)) and not found["working"] and found)
    assert said(cart) == {"working": False, "results": 8, "update": True, "problem": None}
    (parcel,) = stick.parcels()
    assert PATIENT.encode() not in parcel.read_bytes() and b"lesion" not in parcel.read_bytes()
    assert (cart.folder / "crl.pem").read_bytes() == (tmp_path / "crl.pem").read_bytes()
    stick.pull()
    wait_for(lambda: said(cart) is None)
    version = f"sqlite:///{tmp_path / 'fleet.db'}"
    slots = cart.folder / "state" / "slots" / "tiny" / "state.json"
    wait_for(lambda: json.loads(slots.read_text())["current"].startswith("1.1.0"))
    assert cart.waiting() == 8, "nothing is let go without a receipt"

    take = ("import", stick.away, "--store", version, "--key", keys / "hq.key", "--ca", keys / "ca.pem")
    take += ("--receipts", receipts, "--audit", tmp_path / "audit")
    assert "8 findings, 8 of them new" in run(*take).output
    assert "8 findings, 0 of them new" in run(*take).output, "twice is once"
    assert list((tmp_path / "audit").rglob("cart-1.jsonl"))
    with closing(sqlite3.connect(tmp_path / "fleet.db")) as store:
        rows = store.execute("SELECT site, device, count(*) FROM finding GROUP BY 1, 2").fetchall()
        assert rows == [("clinic", "cart-1", 8)]
        assert store.execute("SELECT bundles FROM device").fetchone() == ("tiny 1.0.0",)

    cart.feed(8)
    wait_for(lambda: cart.waiting() == 9)
    (tmp_path / "hidden").rename(cart.releases.repository)
    run(*export)
    stick.plug(cart)
    wait_for(lambda: cart.waiting() == 1)
    wait_for(lambda: (found := said(cart)) and not found["working"] and found)
    assert said(cart) == {"working": False, "results": 1, "update": False, "problem": None}
    assert len(stick.parcels()) == 1, "the one that has arrived is removed"
    stick.pull()
    assert "1 findings, 1 of them new" in run(*take).output
    run(*export)
    stick.plug(cart)
    wait_for(lambda: cart.waiting() == 0)
    assert cart.end() == 0
    with closing(sqlite3.connect(tmp_path / "fleet.db")) as store:
        codes = {code for (code,) in store.execute("SELECT code FROM event WHERE origin = 'cart'")}
    assert {"update_on_trial", "update_committed", "stick_done"} <= codes


def test_a_kill_while_a_stick_is_served_loses_nothing(tmp_path, cart):
    stick, keys = Stick(tmp_path), cart.keys
    cart.feed(*range(4))
    wait_for(lambda: cart.waiting() == 4)
    export = ("export", stick.away, "--hq-key", keys / "hq.pub", "--receipts", tmp_path / "receipts")
    run(*export, "--carts", "clinic/cart-1", "--repo", cart.releases.repository)
    for delay in (0.3, 0.9, 1.1):
        stick.plug(cart)
        time.sleep(delay)
        cart.end(signal.SIGKILL)
        stick.pull()
        assert cart.waiting() == 4
        cart.start()
    stick.plug(cart)
    take = ("import", stick.mount, "--store", f"sqlite:///{tmp_path / 'fleet.db'}", "--key", keys / "hq.key")
    take += ("--ca", keys / "ca.pem", "--receipts", tmp_path / "receipts")
    wait_for(lambda: stick.parcels())
    wait_for(lambda: (found := said(cart)) and not found["working"] and found)
    run(*take)
    with closing(sqlite3.connect(tmp_path / "fleet.db")) as store:
        assert store.execute("SELECT count(*) FROM finding").fetchone() == (4,)
    assert not list(stick.mount.rglob(".*.new"))
