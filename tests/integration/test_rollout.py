"""The tutorial "update forty carts", followed: the real monitor, a real cart and 39 simulated ones."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from releases import Releases

from edge.monitor import rollouts
from edge.monitor.simulated import BUNDLE, Simulated
from edge.monitor.store import audit
from edge.monitor.store.database import Database
from edge.mqtt.payloads import Command, Response, SlotStatus
from tests.integration.conftest import free_port, wait_for

pytestmark = pytest.mark.integration

TUTORIAL = Path(__file__).parents[2] / "docs/tutorial/update-forty-carts.md"
COMMANDS = re.findall(r"^\$ scanwright (.*)$", TUTORIAL.read_text(encoding="utf-8"), re.M)
AWAY = {"cart-38", "cart-39", "cart-40"}


class Carts:
    """Simulated carts that take updates as real ones do; the first of the second stage goes back."""

    def __init__(self, port: int, numbers: range) -> None:
        bundle = BUNDLE.model_copy(update={"name": "tiny"})
        self.carts = {f"cart-{n}": Simulated("clinic", f"cart-{n}", bundle=bundle) for n in numbers}
        self.slots = {name: SlotStatus(name="tiny", version="1.0.0") for name in self.carts}
        self.orders: list[str] = []
        self.bad: str | None = None
        self._client = Client(CallbackAPIVersion.VERSION2, "carts", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_message = self._ordered
        self._client.connect("127.0.0.1", port)
        self._client.subscribe("scanwright/+/+/down/command/update", 1)
        self._client.loop_start()

    def come(self, *names: str) -> None:
        for name in names:
            for topic, payload in (self.carts[name].online(), self.carts[name].birth()):
                self._client.publish(topic, payload, 1)
            self.report(name)

    def leave(self, name: str) -> None:
        self._client.publish(*self.carts[name].online(False), 1)

    def report(self, name: str, **slot: Any) -> None:
        self.slots[name] = self.slots[name].model_copy(update=slot)
        self._client.publish(*self.carts[name].health(slots=(self.slots[name],)), 1)

    def _ordered(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        name = message.topic.split("/")[2]
        if name not in self.carts:
            return
        command = Command.model_validate_json(message.payload)
        assert command.arguments == {"name": "tiny", "version": "1.1.0"}
        self.orders.append(name)
        if len(self.orders) == 4:
            self.bad = name
        said = Response(correlation_id=command.correlation_id, ok=True)
        client.publish(self.carts[name].topics.response("update"), said.model_dump_json(), 1)
        self.report(name, state="trial", pending="1.1.0")
        end = {"state": "idle", "pending": None, "result_version": "1.1.0"}
        if name == self.bad:
            end |= {"result": "rolled_back", "reason": "disagrees"}
        else:
            end |= {"result": "committed", "version": "1.1.0"}
        threading.Timer(0.5, self.report, (name,), end).start()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Headquarters:
    """The monitor, and the tutorial's commands."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self._port = folder, port
        self.store = f"sqlite:///{folder / 'fleet.db'}"
        self.process: subprocess.Popen[bytes] | None = None
        self.id = ""

    def start(self) -> None:
        log = self.folder / "monitor.log"
        said = log.read_text().count("receiving findings") if log.exists() else 0
        command = [
            sys.executable,
            "-m",
            "edge.cli",
            "monitor",
            "--store",
            self.store,
            "--port",
            str(free_port()),
        ]
        with log.open("ab") as file:
            command += ["--broker", f"mqtt://127.0.0.1:{self._port}"]
            self.process = subprocess.Popen(command, stdout=file, stderr=file)
        wait_for(lambda: log.read_text().count("receiving findings") > said)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.process
        self.process.send_signal(number)
        self.process.wait(20)

    def says(self, command: str) -> str:
        """What a command of the tutorial prints, on this store and without its waits."""
        text = command.replace("chest-1.1.0-3f9a", self.id).replace("chest", "tiny").replace("24h", "0s")
        words = shlex.split(text.replace("sqlite:///fleet.db", self.store))
        run = [sys.executable, "-m", "edge.cli", *words]
        done = subprocess.run(run, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self) -> dict[str, Any]:
        self.says(next(c for c in COMMANDS if "--json" in c))
        found: dict[str, Any] = json.loads((self.folder / "status.json").read_text())["rollouts"][0]
        return found

    def reaches(self, store: Database, state: str, **counts: int) -> dict[str, Any]:
        def there() -> bool:
            (found,) = rollouts.views(store)
            states = Counter(cart.state for cart in found.members)
            return found.state == state and all(states[name] == n for name, n in counts.items())

        wait_for(there)
        return self.status()


def test_forty_carts_are_updated_as_the_tutorial_says(mosquitto, make_cart, tiny_bundle, tmp_path):
    start, overview, one, accept, pause, resume, _ = COMMANDS
    broker = mosquitto()
    broker.start()
    (tmp_path / "releases").mkdir()
    releases = Releases(tmp_path / "releases", tiny_bundle)
    releases.bundle("1.0.0")
    real = make_cart(broker.port)
    real.config |= {
        "target": "raspberry-pi-5",
        "bundles": [{"slot": "tiny"}],
        "allow_unsigned": False,
        "health_s": 1,
        "update": {"repositories": [str(releases.repository)], "root": str(releases.root), "health_s": 1},
    }
    headquarters = Headquarters(tmp_path, broker.port)
    headquarters.start()
    carts = Carts(broker.port, range(2, 41))
    try:
        carts.come(*carts.carts)
        for name in AWAY:
            carts.leave(name)
        real.start()
        store = Database(headquarters.store)
        device = store.tables["device"]
        wait_for(lambda: len(store.read(device.select().where(device.c.health_at.is_not(None)))) == 40)
        wait_for(lambda: not any(row.online for row in store.read(device.select()) if row.device in AWAY))
        releases.bundle("1.1.0")

        headquarters.id = headquarters.says(start).strip()
        assert headquarters.says(start) == f"{headquarters.id} (runs already)\n"
        halted = headquarters.reaches(store, "halted", failed=1)
        (failed,) = [cart for cart in halted["carts"] if cart["state"] == "failed"]
        assert (failed["device"], failed["detail"]) == (carts.bad, "rolled_back: disagrees")
        assert "rolled_back: disagrees" in headquarters.says(overview)
        assert f"clinic/{carts.bad}  failed" in headquarters.says(one)
        asked = len(carts.orders)
        assert {cart["stage"] for cart in halted["carts"] if cart["device"] in carts.orders} == {0, 1}

        headquarters.end(signal.SIGKILL)
        headquarters.says(accept)
        headquarters.says(pause)
        headquarters.start()
        assert headquarters.status()["state"] == "paused"
        assert len(carts.orders) == asked
        headquarters.says(resume)
        found = headquarters.reaches(store, "running", waiting=3, ordered=0, done=36)
        assert {cart["device"] for cart in found["carts"] if cart["state"] == "waiting"} == AWAY
        assert next(c for c in found["carts"] if c["device"] == "cart-1")["state"] == "done", "the real one"

        carts.come(*AWAY)
        headquarters.reaches(store, "done", done=39, excused=1)
        assert len(carts.orders) == len(set(carts.orders)) == 39, "each was ordered once"
        kinds = Counter(row.kind for row in audit.entries(store, 1000))
        assert kinds["rollout_ordered"] == 40 and kinds["rollout_started"] == 1
        assert kinds["rollout_running"] == 2 and kinds["rollout_paused"] == kinds["rollout_halted"] == 1
        assert audit.broken_at(store) is None
        store.close()
    finally:
        carts.stop()
        if headquarters.process and headquarters.process.poll() is None:
            headquarters.end()
    assert real.end() == 0
