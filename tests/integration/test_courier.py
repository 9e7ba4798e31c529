"""A cart that no network reaches: its updates come by stick, and its findings leave by it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from click.testing import CliRunner
from releases import Releases
from sites import site_keys

from edge.monitor.courier_cli import courier
from edge.monitor.store.database import Database
from tests.integration.carts import PATIENT, Cart
from tests.integration.conftest import free_port, wait_for

pytestmark = pytest.mark.integration

HOW_TO = Path(__file__).parents[2] / "docs/how-to/carry-a-site-by-stick.md"


class Stick:
    """A folder that is mounted and unmounted by its name."""

    def __init__(self, folder: Path) -> None:
        self.away, self.mount = folder / "stick", folder / "media"
        self.away.mkdir()

    def plug(self) -> None:
        self.away.rename(self.mount)

    def pull(self) -> None:
        self.mount.rename(self.away)

    def parcels(self) -> list[Path]:
        return sorted(self.mount.rglob("*.age")) if self.mount.exists() else []


def said(cart: Cart) -> Any:
    """What the cart's screen says of a stick; None, too, while there is no screen yet."""
    port = cart.config["screen"]["port"]
    try:
        with urlopen(f"http://127.0.0.1:{port}/api/findings", timeout=10) as answer:
            return json.load(answer)["stick"]
    except URLError:
        return None


def served(cart: Cart) -> Any:
    return wait_for(lambda: (found := said(cart)) and not found["working"] and found)


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(courier, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def how_to(place: Path) -> list[list[str]]:
    """The commands of the how-to, with the stick where it is here."""
    lines = re.findall(r"^\$ scanwright courier (.*)$", HOW_TO.read_text(encoding="utf-8"), re.M)
    return [shlex.split(line.replace("/media/stick", str(place))) for line in lines]


@pytest.fixture
def cart(tmp_path, make_cart, tiny_bundle, monkeypatch):
    """A cart with one bundle from the repository of its card, and no broker; and headquarters' folder, with
    the names of the how-to."""
    monkeypatch.chdir(tmp_path)
    releases = Releases(tmp_path, tiny_bundle)
    releases.bundle("1.0.0")
    cart: Cart = make_cart(free_port())
    keys = site_keys("clinic-east", "cart-07")
    keys.write(tmp_path / "keys")
    (tmp_path / "keys" / "crl.pem").write_bytes(keys.revocations(7))
    run(*how_to(tmp_path / "stick")[0])
    with closing(Database(f"sqlite:///{tmp_path / 'fleet.db'}")):
        pass
    cart.config |= {
        "site": "clinic-east",
        "device": "cart-07",
        "target": "raspberry-pi-5",
        "bundles": [{"slot": "tiny"}],
        "allow_unsigned": False,
        "screen": {"port": free_port()},
        "update": {
            "repositories": [str(shutil.copytree(releases.repository, cart.folder / "card"))],
            "root": str(releases.root),
            "health_s": 1,
            "slowdown": 50,
        },
        "courier": {
            "mount": str(tmp_path / "media"),
            "hq_key": str(tmp_path / "courier-keys/hq.pub"),
            "crl": "crl.pem",
        },
    }
    files = {"ca": "ca.pem", "certificate": "certificate.pem", "key": "key.pem"}
    cart.config["mqtt"]["tls"] = {name: str(tmp_path / "keys" / file) for name, file in files.items()}
    cart.start()
    wait_for(lambda: cart.waiting() == 0)
    return cart, releases


def test_a_site_is_carried_by_stick_as_the_how_to_says(tmp_path, cart):
    cart, releases = cart
    stick = Stick(tmp_path)
    _, export, take = how_to(stick.away)
    cart.feed(*range(8))
    wait_for(lambda: cart.waiting() == 8)
    releases.bundle("1.1.0")
    run(*export)
    stick.plug()
    assert served(cart) == {"working": False, "results": 8, "update": True, "problem": None}
    (parcel,) = stick.parcels()
    assert PATIENT.encode() not in parcel.read_bytes() and b"lesion" not in parcel.read_bytes()
    assert (cart.folder / "crl.pem").read_bytes() == (tmp_path / "keys/crl.pem").read_bytes()
    stick.pull()
    wait_for(lambda: said(cart) is None)
    slots = cart.folder / "state" / "slots" / "tiny" / "state.json"
    wait_for(lambda: json.loads(slots.read_text())["current"].startswith("1.1.0"))
    assert cart.waiting() == 8, "nothing is let go without a receipt"

    assert "8 findings, 8 of them new" in run(*take).output
    assert "8 findings, 0 of them new" in run(*take).output, "twice is once"
    assert (tmp_path / "audit/clinic-east/cart-07.jsonl").exists()
    with closing(sqlite3.connect(tmp_path / "fleet.db")) as store:
        rows = store.execute("SELECT site, device, count(*) FROM finding GROUP BY 1, 2").fetchall()
        assert rows == [("clinic-east", "cart-07", 8)]
        assert store.execute("SELECT bundles FROM device").fetchone() == ("tiny 1.0.0",)

    cart.feed(8)
    wait_for(lambda: cart.waiting() == 9)
    run(*export)
    stick.plug()
    wait_for(lambda: cart.waiting() == 1)
    assert served(cart) == {"working": False, "results": 1, "update": False, "problem": None}
    assert len(stick.parcels()) == 1, "the one that has arrived is removed"
    stick.pull()
    assert "1 findings, 1 of them new" in run(*take).output
    run(*export)
    stick.plug()
    wait_for(lambda: cart.waiting() == 0)
    assert cart.end() == 0
    with closing(sqlite3.connect(tmp_path / "fleet.db")) as store:
        codes = {code for (code,) in store.execute("SELECT code FROM event WHERE origin = 'cart'")}
    assert {"update_on_trial", "update_committed", "stick_done"} <= codes


def test_a_kill_while_a_stick_is_served_loses_nothing(tmp_path, cart):
    cart, _ = cart
    stick = Stick(tmp_path)
    _, export, take = how_to(stick.away)
    cart.feed(*range(4))
    wait_for(lambda: cart.waiting() == 4)
    run(*export)
    for delay in (0.3, 0.9, 1.1):
        stick.plug()
        time.sleep(delay)
        cart.end(signal.SIGKILL)
        stick.pull()
        assert cart.waiting() == 4
        cart.start()
    stick.plug()
    wait_for(stick.parcels)
    served(cart)
    assert not list(stick.mount.rglob(".*.new"))
    stick.pull()
    run(*take)
    with closing(sqlite3.connect(tmp_path / "fleet.db")) as store:
        assert store.execute("SELECT count(*) FROM finding").fetchone() == (4,)
