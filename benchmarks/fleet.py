"""What one monitor bears: simulated carts with the agent's own payloads, mosquitto, SQLite or PostgreSQL.

    python benchmarks/fleet.py [--carts 500] [--store sqlite|postgresql] [--seconds 60] [--storm 1000]

Carts share some 200 connections; each tells one health and one finding a minute. ``capacity`` has the broker
hold messages while the monitor is away, and times how fast it stores them when it is back; ``headroom`` is
that over the rate that the carts make. ``steady`` runs at that rate, with the page open: how long a finding
takes from its publishing to the page's event stream, how long the fleet page takes, and the memory. ``storm``
has so many carts with connections of their own come at once, kills the broker under them, and has them come
back: seconds until each has the receipt of a finding. Seconds of the monitor's processor are counted too,
because they do not depend on what else the machine does. PostgreSQL is a cluster of its own in a temporary
folder.
"""

from __future__ import annotations

import getpass
import http.client
import json
import os
import queue
import random
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from sqlalchemy import create_engine, text

from edge.mqtt.payloads import Ack, Birth, BundleRef, Evidence, Finding, Health, Stamp
from edge.mqtt.topics import OFFLINE, ONLINE, Topics

ROOT = Path(__file__).parents[1]
BUNDLE = BundleRef(name="chest", version="1.0.0", sha256="0" * 64, target="raspberry-pi-5", signed=True)
SITES = 40
PER_CART_A_MINUTE = 2  # one health, one finding
PASSWORD = "a fleet of carts"


def stamp() -> Stamp:
    return Stamp(at=datetime.now(timezone.utc), clock_trusted=True, monotonic_s=100.0, boot_id="boot")


def topics_of(number: int) -> Topics:
    return Topics(f"site-{number % SITES}", f"cart-{number}")


def birth(own: Topics) -> bytes:
    said = Birth(
        site=own.site,
        device=own.device,
        stamp=stamp(),
        agent_version="1.0.0",
        target="raspberry-pi-5",
        interpreter="litert 2.3.0",
        bundles=(BUNDLE,),
        started=datetime.now(timezone.utc),
    )
    return said.model_dump_json().encode()


def health(number: int) -> bytes:
    said = Health(
        stamp=stamp(),
        uptime_s=18_000.0,
        frames=120,
        findings=118,
        quarantined=0,
        backlog=0,
        inference_ms=14.0,
        disk_free_mb=20_000.0 - number % 100,
        disk_days=200.0,
        memory_mb=140.0,
        temperature_celsius=50.0 + number % 10,
        load=0.4,
        certificate_days=300.0,
    )
    return said.model_dump_json().encode()


def finding(own: Topics) -> tuple[str, bytes]:
    id_ = uuid.uuid4().hex
    probability = random.random()
    said = Finding(
        id=id_,
        site=own.site,
        device=own.device,
        stamp=stamp(),
        case_code=f"{id_[:4]}-AAAA".upper(),
        study=uuid.uuid4().hex,
        source="folder",
        bundle=BUNDLE,
        decision="positive" if probability > 0.5 else "negative",
        label="pneumonia" if probability > 0.5 else None,
        probability=probability,
        probabilities={"normal": 1 - probability, "pneumonia": probability},
        thresholds={"pneumonia": 0.5},
        evidence=Evidence(quality={"brightness": 120.0, "contrast": 40.0, "sharpness": 2.0}),
    )
    return id_, said.model_dump_json().encode()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise click.ClickException(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.02)
    return value


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    if process.poll() is None:
        process.send_signal(number)
        process.wait(60)


class Broker:
    """mosquitto as ``scanwright keys init`` configures it, but for TLS and how much it may hold."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        folder.mkdir()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser {getpass.getuser()}\n"
            "max_packet_size 1048576\nmax_inflight_messages 20\nmax_queued_messages 200000\n"
            "max_queued_bytes 1073741824\nmax_connections -1\n"
            f"persistence true\npersistence_location {folder}/\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            raise click.ClickException("mosquitto is not installed: apt-get install mosquitto")
        self.process = subprocess.Popen(
            [program, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(lambda: _answers(self.port), 20, "the broker")

    def kill(self) -> None:
        if self.process:
            end(self.process, signal.SIGKILL)


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A cluster of its own; the URL of its database."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        raise click.ClickException("PostgreSQL is not installed: apt-get install postgresql")
    folder.mkdir()
    as_user = []
    if os.geteuid() == 0:  # it does not run as root
        shutil.chown(folder, "postgres")
        for parent in (folder.parent, *folder.parent.parents):
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
        as_user = ["runuser", "-u", "postgres", "--"]
    port, data = free_port(), folder / "data"

    def run(name: str, *arguments: str) -> None:
        command = [*as_user, str(programs[-1] / name), *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"{name}: {done.stderr.strip() or done.stdout.strip()}")

    run("initdb", "-D", str(data), "-U", "scanwright", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql://scanwright@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")


class Fleet:
    """Connections to the broker, served by one thread; each carries many carts."""

    def __init__(self, port: int, connections: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._clients = [self._client(number) for number in range(connections)]
        self.connected = 0
        self._waiting: queue.SimpleQueue[tuple[int, str, bytes, int]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._unacknowledged = 0

    def _client(self, number: int) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, f"bench-{number}", protocol=MQTTProtocolVersion.MQTTv5)
        client.max_inflight_messages_set(20)
        client.max_queued_messages_set(0)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        return client

    def _on_connect(self, *_: Any) -> None:
        self.connected += 1

    def _on_publish(self, *_: Any) -> None:
        self._unacknowledged -= 1

    def start(self) -> None:
        for client in self._clients:
            client.connect("127.0.0.1", self._port, keepalive=120)
            self._selector.register(client.socket(), selectors.EVENT_READ, client)
        self._thread.start()
        until(lambda: self.connected == len(self._clients), 60, "the connections")

    def publish(self, cart: int, topic: str, payload: bytes, qos: int) -> None:
        self._waiting.put((cart, topic, payload, qos))

    def settle(self, timeout_s: float = 300) -> None:
        """Wait until the broker has all that was published."""
        until(lambda: self._waiting.empty() and self._unacknowledged <= 0, timeout_s, "publishing")

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        for client in self._clients:
            client.disconnect()

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._stop.is_set():
            for _ in range(2000):
                try:
                    cart, topic, payload, qos = self._waiting.get_nowait()
                except queue.Empty:
                    break
                self._unacknowledged += qos > 0
                self._clients[cart % len(self._clients)].publish(topic, payload, qos=qos)
            for key, _ in self._selector.select(0.01):
                key.data.loop_read()
            for client in self._clients:
                if client.want_write():
                    client.loop_write()
            if time.monotonic() - looked > 1:
                looked = time.monotonic()
                for client in self._clients:
                    client.loop_misc()


class Monitor:
    """The command, its page and what it takes of the machine."""

    def __init__(self, broker: int, store: str, folder: Path) -> None:
        self.port, self._log = free_port(), folder / "monitor.log"
        self._command = [sys.executable, "-m", "edge.cli", "monitor", "--store", store]
        self._options = ["--broker", f"mqtt://127.0.0.1:{broker}", "--port", str(self.port)]
        self._password = folder / "password"
        self._password.write_text(PASSWORD)
        self.process: subprocess.Popen[bytes] | None = None
        self.cookie = ""
        add = ["user", "add", "bench", "--role", "engineer", "--password-file", str(self._password)]
        subprocess.run([*self._command[:4], *add, "--store", store], check=True, capture_output=True)

    def start(self) -> None:
        said = self._said()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([*self._command, *self._options], stdout=log, stderr=log)
        until(lambda: self._said() > said, 60, "the monitor")

    def _said(self) -> int:
        return self._log.read_text().count("receiving findings") if self._log.exists() else 0

    def processor_s(self) -> float:
        """Seconds of processor that it has used."""
        assert self.process
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Resident memory, the most that it ever had."""
        assert self.process
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    def login(self) -> None:
        body = f"name=bench&password={quote(PASSWORD)}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        origin = f"http://127.0.0.1:{self.port}"
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin}
        connection.request("POST", "/login", body, headers)
        answer = connection.getresponse()
        answer.read()
        self.cookie = (answer.headers["Set-Cookie"] or "").split(";")[0]
        if answer.status != 303:
            raise click.ClickException(f"the login answers {answer.status}")

    def page(self, path: str) -> tuple[float, int]:
        """Seconds that a page takes, and its bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        start = time.perf_counter()
        connection.request("GET", path, headers={"Cookie": self.cookie})
        answer = connection.getresponse()
        size = len(answer.read())
        if answer.status != 200:
            raise click.ClickException(f"{path} answers {answer.status}")
        return time.perf_counter() - start, size

    def follow(self, seen: list[tuple[float, int]], stop: threading.Event) -> None:
        """Remember when the event stream told of how many findings."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/api/events", headers={"Cookie": self.cookie})
        answer = connection.getresponse()
        while not stop.is_set() and (line := answer.readline()):
            if line.startswith(b"data: "):
                with suppress(KeyError, ValueError):
                    seen.append((time.monotonic(), json.loads(line[6:])["findings"]))


class Store:
    """What the measurement itself asks of the database."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))

    def findings(self) -> int:
        return self._one("SELECT coalesce(max(seq), 0) FROM finding")

    def seq(self, id_: str) -> int:
        return self._one("SELECT coalesce(max(seq), 0) FROM finding WHERE id = :id", id=id_)

    def online(self) -> int:
        return self._one("SELECT count(*) FROM device WHERE online")

    def _one(self, query: str, **parameters: Any) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(text(query), parameters).scalar_one())


def register(fleet: Fleet, store: Store, carts: int) -> None:
    for number in range(carts):
        own = topics_of(number)
        fleet.publish(number, own.availability, ONLINE.encode(), 1)
        fleet.publish(number, own.birth, birth(own), 1)
    fleet.settle()
    until(lambda: store.online() == carts, 300, "the carts' registration")


def capacity(fleet: Fleet, monitor: Monitor, store: Store, carts: int, messages: int) -> dict[str, float]:
    assert monitor.process
    before = store.findings()
    end(monitor.process)
    for number in range(messages // PER_CART_A_MINUTE):
        own = topics_of(number % carts)
        # QoS 1 here: mosquitto 2.0.11 mixes QoS 0 among what it holds so badly that the rest stands still.
        fleet.publish(number, own.health, health(number), 1)
        fleet.publish(number, own.finding, finding(own)[1], 1)
    fleet.settle()
    monitor.start()
    used, samples = monitor.processor_s(), []
    target = before + messages // PER_CART_A_MINUTE
    while not samples or samples[-1][1] < target:
        samples.append((time.monotonic(), store.findings()))
        if samples[-1][0] - samples[0][0] > 300:
            raise click.ClickException(f"stored {samples[-1][1] - before} of {target - before} within 300 s")
        time.sleep(0.1)
    used = monitor.processor_s() - used
    first = next(one for one in samples if one[1] > before)
    stored = (samples[-1][1] - first[1]) * PER_CART_A_MINUTE
    a_second = stored / max(0.1, samples[-1][0] - first[0])
    needed = carts * PER_CART_A_MINUTE / 60
    return {
        "messages": messages,
        "messages_a_second": round(a_second, 1),
        "needed_a_second": round(needed, 1),
        "headroom": round(a_second / needed, 2),
        "processor_ms_a_message": round(1000 * used / messages, 3),
        "headroom_of_one_core": round(messages / used / needed, 2),
    }


def steady(
    fleet: Fleet, broker: Broker, monitor: Monitor, store: Store, carts: int, seconds: float
) -> dict[str, float]:
    monitor.login()
    seen: list[tuple[float, int]] = []
    stop = threading.Event()
    threading.Thread(target=monitor.follow, args=(seen, stop), daemon=True).start()
    until(lambda: seen, 20, "the event stream")
    # A connection of its own: what is measured must not wait in the simulation's queue.
    prober = Client(CallbackAPIVersion.VERSION2, "prober", protocol=MQTTProtocolVersion.MQTTv5)
    prober.connect("127.0.0.1", broker.port)
    prober.loop_start()
    used, start = monitor.processor_s(), time.monotonic()
    gap, number, probes, pages, sizes = 60 / carts, 0, [], [], []
    next_probe, next_page = start + 2, start + 3
    while (now := time.monotonic()) < start + seconds:
        while start + number * gap <= now:
            own = topics_of(number % carts)
            id_, said = finding(own)
            fleet.publish(number, own.health, health(number), 0)
            if now >= next_probe:
                probes.append((time.monotonic(), id_))
                prober.publish(own.finding, said, qos=1)
                next_probe = now + 1
            else:
                fleet.publish(number, own.finding, said, 1)
            number += 1
        if now >= next_page:
            took, size = monitor.page("/")
            pages.append(took)
            sizes.append(size)
            next_page = time.monotonic() + 2
        time.sleep(min(0.01, gap))
    fleet.settle()
    last = until(lambda: store.seq(probes[-1][1]), 60, "the last finding")
    until(lambda: seen[-1][1] >= last, 60, "the page")
    elapsed = time.monotonic() - start
    used = monitor.processor_s() - used
    stop.set()
    prober.disconnect()
    prober.loop_stop()
    delays = []
    for at, id_ in probes:
        seq = store.seq(id_)
        told = next((when for when, findings in seen if seq and findings >= seq and when >= at), None)
        if told is None:
            raise click.ClickException("a finding was never told on the page")
        delays.append(told - at)
    return {
        "seconds": round(elapsed, 1),
        "messages": number * PER_CART_A_MINUTE,
        "latency_s_median": round(statistics.median(delays), 3),
        "latency_s_most": round(max(delays), 3),
        "page_ms_median": round(1000 * statistics.median(pages), 1),
        "page_ms_most": round(1000 * max(pages), 1),
        "page_kb": round(statistics.median(sizes) / 1024, 1),
        "memory_mb": round(monitor.memory_mb(), 1),
        "processor_share": round(used / elapsed, 3),
    }


class Stormy:
    """A cart with a connection and a last will of its own, and a finding that it keeps until its receipt."""

    def __init__(self, number: int) -> None:
        self._own = Topics("storm", f"cart-{number}")
        self._id, self._said, self.receipted = "", b"", False
        self.client = Client(
            CallbackAPIVersion.VERSION2, f"storm-{number}", protocol=MQTTProtocolVersion.MQTTv5
        )
        self.client.will_set(self._own.availability, OFFLINE, qos=1, retain=True)
        self.client.on_connect = self._come
        self.client.on_message = self._hear

    def connect(self, port: int) -> None:
        self._id, self._said = finding(self._own)
        self.receipted = False
        self.client.connect("127.0.0.1", port, keepalive=300)

    def send(self) -> None:
        if self.client.is_connected():
            self.client.publish(self._own.finding, self._said, qos=1)

    def _come(self, *_: Any) -> None:
        self.client.subscribe(self._own.ack, qos=1)
        self.client.publish(self._own.availability, ONLINE, qos=1, retain=True)
        self.client.publish(self._own.birth, birth(self._own), qos=1, retain=True)
        self.send()

    def _hear(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self.receipted = self.receipted or self._id in Ack.model_validate_json(message.payload).ids


def storm(broker: Broker, connections: int) -> dict[str, float]:
    """All come at once, lose the broker, and come back at once: seconds until each has its receipt."""
    carts = [Stormy(number) for number in range(connections)]

    def come() -> float:
        start = sent = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for cart in carts:
                cart.connect(broker.port)
                selector.register(cart.client.socket(), selectors.EVENT_READ, cart.client)
            while not all(cart.receipted for cart in carts):
                for key, _ in selector.select(0.05):
                    key.data.loop_read()
                if time.monotonic() - sent > 5:  # nobody had subscribed yet
                    sent = time.monotonic()
                    for cart in carts:
                        if not cart.receipted:
                            cart.send()
                for cart in carts:
                    if cart.client.want_write():
                        cart.client.loop_write()
                if time.monotonic() - start > 180:
                    raise click.ClickException("the storm did not settle within 180 s")
        return time.monotonic() - start

    first = come()
    broker.kill()
    broker.start()
    for cart in carts:
        with suppress(AttributeError, OSError):
            cart.client.socket().close()
    again = come()
    for cart in carts:
        cart.client.disconnect()
    return {"connections": connections, "first_s": round(first, 2), "again_s": round(again, 2)}


def _say(what: str) -> None:
    click.echo(f"{what} …", err=True)


@click.command()
@click.option("--carts", default=500, show_default=True, type=click.IntRange(1))
@click.option(
    "--store", "kind", default="sqlite", type=click.Choice(["sqlite", "postgresql"]), show_default=True
)
@click.option("--seconds", default=60.0, show_default=True, help="Of the steady part.")
@click.option("--messages", default=20_000, show_default=True, help="Of the part for capacity.")
@click.option("--connections", default=200, show_default=True)
@click.option(
    "--storm", "storming", default=1000, show_default=True, help="Connections at once; 0: no storm."
)
@click.option("--page/--no-page", default=True, help="Measure the page, too.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
def main(
    carts: int,
    kind: str,
    seconds: float,
    messages: int,
    connections: int,
    storming: int,
    page: bool,
    json_file: Path | None,
) -> None:
    """Measure one monitor under a simulated fleet."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
        broker = Broker(folder / "broker")
        stack.callback(broker.kill)
        broker.start()
        url = f"sqlite:///{folder / 'fleet.db'}"
        if kind == "postgresql":
            url = stack.enter_context(postgresql(folder / "postgresql"))
        monitor = Monitor(broker.port, url, folder)
        stack.callback(lambda: monitor.process and end(monitor.process))
        monitor.start()
        store = Store(url)
        fleet = Fleet(broker.port, min(connections, carts))
        fleet.start()
        _say("the carts register")
        register(fleet, store, carts)
        found: dict[str, Any] = {
            "carts": carts,
            "store": kind,
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
        }
        _say("capacity")
        found["capacity"] = capacity(fleet, monitor, store, carts, messages)
        _say(json.dumps(found["capacity"]))
        if page:
            _say("steady")
            found["steady"] = steady(fleet, broker, monitor, store, carts, seconds)
        fleet.stop()
        if storming:
            _say("storm")
            found["storm"] = storm(broker, storming)
    said = json.dumps(found, indent=2)
    click.echo(said)
    if json_file:
        json_file.write_text(said + "\n")


if __name__ == "__main__":
    main()
