"""The demo's cart: the real agent, as a process of its own, and what it tells over MQTT."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import yaml
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.agent.config import AgentConfig, FolderSource, MqttConfig, ScreenConfig
from edge.agent.identity import Identity, device_secret
from edge.errors import ScanwrightError
from edge.mqtt.payloads import Birth, Finding, Health
from edge.mqtt.topics import ONLINE, Topics

__all__ = ["Arrival", "Cart"]

_HOST = "127.0.0.1"
_SCREEN_PORT = 8080
_START_S = 30.0
_STOP_S = 15.0


@dataclass(frozen=True)
class Arrival:
    """A finding as it came back over MQTT, and when by the monotonic clock."""

    finding: Finding
    at: float


class Cart:
    """An agent with a folder to drop images into, and a subscriber that listens to it.

    ``drop`` is that folder, ``log`` the agent's own log, ``url`` its screen, ``arrivals`` each finding once.
    """

    def __init__(self, folder: Path, bundle: Path, target: str, broker_port: int) -> None:
        """Write the agent's configuration below ``folder``, which must exist."""
        self.drop = folder / "drop"
        self.log = folder / "agent.log"
        self.config_path = folder / "agent.yaml"
        self._state = folder / "state"
        for needed in (self.drop, self._state):
            needed.mkdir()
        screen_port = _free_port()
        self.url = f"http://{_HOST}:{screen_port}/"
        self._config = AgentConfig(
            site="demo",
            device="cart-1",
            target=target,
            state=self._state.relative_to(folder),
            bundles=(bundle.absolute(),),
            allow_unsigned=True,
            sources=(FolderSource(path=self.drop.relative_to(folder), poll_s=0.1, settle_s=0.2),),
            # The embedded broker speaks 3.1.1 only.
            mqtt=MqttConfig(host=_HOST, port=broker_port, protocol="3.1.1"),
            screen=ScreenConfig(host=_HOST, port=screen_port),
            health_s=1,
        )
        self.config_path.write_text(
            yaml.safe_dump(self._config.model_dump(mode="json", exclude_none=True), sort_keys=False),
            encoding="utf-8",
        )
        self.arrivals: queue.Queue[Arrival] = queue.Queue()
        self.birth: Birth | None = None
        self.health: Health | None = None
        self.started_s = 0.0
        self._online = False
        self._known: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id="scanwright-demo", protocol=MQTTProtocolVersion.MQTTv311
        )

    def __enter__(self) -> Cart:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def finding_id(self, identity: str) -> str:
        """The id that the agent gives to the finding of an image; a cart's secret makes it."""
        assert self.birth
        bundle = self.birth.bundles[0]
        return Identity(device_secret(self._state / "secret")).finding(bundle.name, bundle.version, identity)

    def check(self) -> None:
        """Raise a ScanwrightError if the agent has ended."""
        if self._process and self._process.poll() is not None:
            raise ScanwrightError(
                f"the agent ended with exit code {self._process.returncode}: {self._last_words()}"
            )

    def tensorflow_files(self) -> int | None:
        """How many files of TensorFlow the agent has in its memory map; None where that cannot be seen."""
        assert self._process
        try:
            maps = Path(f"/proc/{self._process.pid}/maps").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        return len({line.split()[-1] for line in maps.splitlines() if "/tensorflow/" in line})

    def stop(self) -> None:
        """End the agent as a service manager would (SIGTERM), and the subscriber."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._client.disconnect()
        self._client.loop_stop()

    def _start(self) -> None:
        topics = Topics(self._config.site, self._config.device)
        self._client.on_connect = lambda client, *_: client.subscribe(topics.up("#"), qos=1)
        self._client.on_message = lambda _client, _data, message: self._hear(topics, message)
        self._client.connect(_HOST, self._config.mqtt.port)
        self._client.loop_start()
        began = time.monotonic()
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "edge.cli", "agent", "run", "--config", str(self.config_path)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not (self._online and self.birth):
            self.check()
            if time.monotonic() - began > _START_S:
                raise ScanwrightError(f"the agent was not online after {_START_S:.0f} s; see {self.log}")
            time.sleep(0.02)
        self.started_s = time.monotonic() - began

    def _hear(self, topics: Topics, message: MQTTMessage) -> None:
        at = time.monotonic()
        if message.topic == topics.availability:
            self._online = message.payload == ONLINE.encode()
        elif message.topic == topics.birth and message.payload:
            self.birth = Birth.model_validate_json(message.payload)
        elif message.topic == topics.health:
            self.health = Health.model_validate_json(message.payload)
        elif message.topic == topics.finding:
            finding = Finding.model_validate_json(message.payload)
            # At least once is what the agent promises: a second time is no second result.
            if finding.id not in self._known:
                self._known.add(finding.id)
                self.arrivals.put(Arrival(finding, at))

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if not lines:
            return f"see {self.log}"
        try:
            return str(json.loads(lines[-1])["message"])
        except (ValueError, KeyError, TypeError):
            return lines[-1].removeprefix("error: ")


def _free_port() -> int:
    """The screen's usual port, or one that is free."""
    for port in (_SCREEN_PORT, 0):
        try:
            with socket.create_server((_HOST, port)) as probe:
                return int(probe.getsockname()[1])
        except OSError:
            continue
    raise ScanwrightError("no free port for the screen")
