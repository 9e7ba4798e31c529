"""A real mosquitto on a free loopback port, and a subscriber that remembers everything."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

_PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def wait_for(condition: Callable[[], Any], timeout_s: float = 90.0) -> Any:
    """The first true value of ``condition``; fails when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "nothing came in time"
        time.sleep(0.02)
    return value


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Mosquitto:
    """One broker, which may be killed and started again on the same port."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            "\n".join(
                [
                    f"listener {self.port} 127.0.0.1",
                    "allow_anonymous true",
                    f"user {getpass.getuser()}",
                    *lines,
                    "",
                ]
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert _PROGRAM
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([_PROGRAM, "-c", str(self._config)], stdout=log, stderr=log)
        wait_for(self._listens)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def configure(self, text: str) -> None:
        """Another configuration file, from the next start on."""
        self._config.write_text(f"{text}\nuser {getpass.getuser()}\n")

    def reload(self) -> None:
        """Have certificates and lists read again."""
        assert self._process
        self._process.send_signal(signal.SIGHUP)

    def freeze(self) -> None:
        """Keep the connections and answer nothing any more."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def _end(self, number: signal.Signals) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(10)

    def _listens(self) -> bool:
        assert self._process and self._process.poll() is None, (self._folder / "mosquitto.log").read_text()
        ports = re.findall(r"^listener (\d+)", self._config.read_text(), re.M)
        return all(_answers(int(port)) for port in ports)


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


class Subscriber:
    """Subscribes to everything, again after each loss of the broker, and remembers what came in order."""

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, "watcher", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.reconnect_delay_set(0.05, 0.2)  # type: ignore[arg-type]
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, m: self.messages.append((m.topic, bytes(m.payload)))
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(10)

    def topics(self, end: str) -> list[bytes]:
        """Payloads of the topics that end so, in order."""
        return [payload for topic, payload in list(self.messages) if topic.endswith(end)]

    def json(self, end: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in self.topics(end)]

    def findings(self) -> list[dict[str, Any]]:
        return self.json("/up/finding")

    def publish(self, topic: str, payload: str | bytes, retain: bool = False) -> None:
        wait_for(self._client.is_connected)
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """``mosquitto(*config_lines)``: a broker that is not started yet."""
    if _PROGRAM is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    brokers: list[Mosquitto] = []

    def make(*lines: str) -> Mosquitto:
        folder = tmp_path / f"mosquitto-{len(brokers)}"
        folder.mkdir()
        brokers.append(Mosquitto(folder, *lines))
        return brokers[-1]

    yield make
    for broker in brokers:
        broker.kill()


@pytest.fixture
def subscriber() -> Iterator[Callable[[int], Subscriber]]:
    """``subscriber(port)``: a connected subscriber to everything."""
    made: list[Subscriber] = []

    def make(port: int) -> Subscriber:
        made.append(Subscriber(port))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Postgres:
    """A PostgreSQL cluster of its own, in a folder that goes with it."""

    def __init__(self, programs: Path) -> None:
        self.port = free_port()
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="scanwright-postgres-"))
        self._count = 0
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(self._folder, "postgres", "postgres")
        data = ["-D", str(self._folder / "data")]
        self._run(
            "initdb", *data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"
        )
        self._data = data

    def start(self) -> None:
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self._folder / "log")
        self._run("pg_ctl", *self._data, "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", *self._data, "-m", "immediate", "-w", "stop")

    def database(self) -> str:
        """The URL of a new database."""
        import psycopg

        self._count += 1
        name = f"fleet{self._count}"
        with psycopg.connect(f"postgresql://postgres@127.0.0.1:{self.port}/postgres", autocommit=True) as one:
            one.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(
            command,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    cluster = Postgres(programs[-1])
    cluster.start()
    yield cluster
    cluster.close()


@pytest.fixture
def make_cart(tmp_path: Path, tiny_bundle: Any, picture: Any) -> Iterator[Callable[[int], Any]]:
    """``make_cart(port)``: a cart that is not started yet, and is ended whatever happens."""
    from tests.integration.carts import Cart

    made: list[Cart] = []

    def make(port: int) -> Cart:
        folder = tmp_path / f"cart-{len(made)}"
        folder.mkdir()
        made.append(Cart(folder, tiny_bundle, picture, port))
        return made[-1]

    yield make
    for one in made:
        if one.process and one.process.poll() is None:
            one.process.kill()
            one.process.wait(10)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Playwright, for phones with Debian's Chromium."""
    from phone_app import CHROMIUM

    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if not CHROMIUM.exists():
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as engine:
        yield engine
