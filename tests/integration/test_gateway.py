"""A gateway made from SITE.yaml: a real mosquitto takes it, and carries findings to the headquarters'."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from tests.integration.conftest import wait_for

pytestmark = pytest.mark.integration


def site(name: str, port: int, headquarters: int | None = None) -> str:
    broker: dict[str, Any] = {"host": "localhost", "port": port}
    if headquarters:
        broker["headquarters"] = f"localhost:{headquarters}"
    carts = [{"device": device, "target": "raspberry-pi-5"} for device in ("cart-1", "clinic")]
    return yaml.safe_dump({"site": name, "broker": broker, "carts": carts})


def scanwright(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False
    )


def client(keys: Path, port: int, name: str) -> tuple[Client, list[tuple[str, bytes]], threading.Event]:
    made = Client(CallbackAPIVersion.VERSION2, name)
    got: list[tuple[str, bytes]] = []
    ready = threading.Event()
    made.on_message = lambda _c, _d, m: got.append((m.topic, bytes(m.payload)))
    made.on_subscribe = lambda *_: ready.set()
    made.tls_set(str(keys / "ca.pem"), str(keys / "certificate.pem"), str(keys / "key.pem"))
    made.connect("localhost", port)
    made.loop_start()
    wait_for(made.is_connected, 15)
    return made, got, ready


@pytest.fixture
def both(tmp_path: Path, mosquitto: Callable[..., Any]) -> Any:
    """Two sites with brokers of their own; the clinic's bridges to the other."""
    local, far = mosquitto(), mosquitto()
    for name, text in {
        "hq": site("hq", far.port),
        "clinic": site("clinic", local.port, far.port),
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "SITE.yaml").write_text(text)
        assert scanwright(folder, "keys", "init", "SITE.yaml", "--out", "keys").returncode == 0
    # The headquarters gives the clinic a certificate with the site's name, and lets it write below that.
    assert (
        scanwright(tmp_path / "hq", "keys", "device", "SITE.yaml", "clinic", "--dir", "keys").returncode == 0
    )
    assert (
        scanwright(tmp_path / "clinic", "keys", "device", "SITE.yaml", "cart-1", "--dir", "keys").returncode
        == 0
    )
    done = scanwright(
        tmp_path / "clinic", "gateway", "SITE.yaml", "--keys", "keys", "--out", "gateway",
        "--headquarters", str(tmp_path / "hq/keys/devices/clinic"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tmp_path, local, far


def placed(text: str, folder: Path) -> str:
    state = folder / "state"
    state.mkdir(exist_ok=True)
    text = text.replace("/etc/mosquitto/scanwright", str(folder)).replace("/var/lib/mosquitto/", f"{state}/")
    return re.sub(r"restart_timeout .*", "restart_timeout 8", text)


def test_findings_cross_the_bridge_even_if_the_link_was_down_and_acks_come_back(both):
    folder, local, far = both
    gateway, hq = folder / "clinic/gateway/mosquitto", folder / "hq/keys/broker"
    far.configure(placed((hq / "mosquitto.conf").read_text(), hq))
    (hq / "acl").write_text(
        "user clinic\ntopic readwrite scanwright/clinic/#\nuser headquarters\ntopic readwrite #\n"
    )
    local.configure(placed((gateway / "mosquitto.conf").read_text(), gateway))
    local.start()
    cart, told, ready = client(folder / "clinic/keys/devices/cart-1", local.port, "cart-1")
    cart.subscribe("scanwright/clinic/cart-1/down/#", qos=1)
    assert ready.wait(10)
    # The headquarters is not there yet.
    cart.publish("scanwright/clinic/cart-1/up/finding", b"first", qos=1).wait_for_publish(10)
    far.start()
    watcher, seen, ready = client(folder / "hq/keys/headquarters", far.port, "headquarters")
    watcher.subscribe("scanwright/#", qos=1)
    assert ready.wait(10)
    cart.publish("scanwright/clinic/cart-1/up/finding", b"second", qos=1)
    wait_for(lambda: {payload for _, payload in seen} >= {b"first", b"second"}, 45)
    watcher.publish("scanwright/clinic/cart-1/down/ack", b"{}", qos=1)
    wait_for(lambda: ("scanwright/clinic/cart-1/down/ack", b"{}") in told, 30)
    for one in (cart, watcher):
        one.disconnect()
        one.loop_stop()


def test_the_compose_file_runs_what_was_tested(both):
    folder, local, _ = both
    document = yaml.safe_load((folder / "clinic/gateway/compose.yaml").read_text())
    service = document["services"]["mosquitto"]
    assert service["ports"] == [f"{local.port}:{local.port}"] and service["restart"] == "unless-stopped"
    assert service["command"][-1] == "/etc/mosquitto/scanwright/mosquitto.conf"
    assert "./mosquitto:/etc/mosquitto/scanwright:ro" in service["volumes"]
    assert (folder / "clinic/gateway/mosquitto/key.pem").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gateway", "SITE.yaml", "--keys", "keys", "--out", "g"), "--headquarters go together"),
        (("gateway", "SITE.yaml", "--keys", "../hq/keys", "--out", "g"), "these keys are of 'hq'"),
        (
            ("gateway", "SITE.yaml", "--keys", "keys", "--headquarters", "gone", "--out", "g"),
            "gone/ca.pem: cannot be read",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(both, arguments, words):
    done = scanwright(both[0] / "clinic", *arguments)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
    assert not (both[0] / "clinic/g").exists()
