"""Durable findings a second through outbox and a real mosquitto, against paho with nothing on the disk.

    python benchmarks/outbox.py [--findings 3000] [--json FILE]

Three figures, in findings a second: ``durable`` puts each finding on the disk (SQLite, synchronous FULL,
group commit) while it is published and deleted on its PUBACK, until the outbox is empty; ``backlog`` empties
an outbox that was full before the connection; ``memory`` is paho alone with the same payloads and the same
window. ``ratio`` is durable over memory. A subscriber takes part in all of them, in a process of its own.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.agent.database import Database
from edge.agent.outbox import Outbox
from edge.mqtt.broker import WINDOW, Broker
from edge.mqtt.connection import Connection
from edge.mqtt.topics import Topics

TOPICS = Topics("bench", "cart")
AHEAD = 200  # findings decided and not yet on the disk: what the agent's group commit lives from
PAYLOAD_BYTES = 1500


def payload(number: int) -> bytes:
    said = json.dumps({"id": f"{number:032x}", "backfill": False, "padding": ""}, separators=(",", ":"))
    return said.replace('""', '"' + "x" * (PAYLOAD_BYTES - len(said)) + '"').encode()


def durable(port: int, findings: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        outbox, connection = _device(Path(folder), port)
        connection.start()
        _until(lambda: connection.online)
        start = time.perf_counter()
        written = []
        for number in range(findings):
            written.append(outbox.put("finding", f"{number:032x}", TOPICS.finding, payload(number)))
            if number >= AHEAD:
                written[number - AHEAD].result()
        _until(lambda: outbox.oldest_s() is None and written[-1].done())
        elapsed = time.perf_counter() - start
        connection.stop(5)
    return findings / elapsed


def backlog(port: int, findings: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        outbox, connection = _device(Path(folder), port)
        for number in range(findings):
            last = outbox.put("finding", f"{number:032x}", TOPICS.finding, payload(number))
        last.result()
        connection.start()
        _until(lambda: connection.online)
        start = time.perf_counter()
        _until(lambda: outbox.oldest_s() is None)
        elapsed = time.perf_counter() - start
        connection.stop(5)
    return findings / elapsed


def memory(port: int, findings: int) -> float:
    client = Client(CallbackAPIVersion.VERSION2, "memory", protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(WINDOW)
    connected, answered = threading.Event(), threading.Semaphore(0)
    client.on_connect = lambda *_: connected.set()
    client.on_publish = lambda *_: answered.release()
    client.connect("127.0.0.1", port)
    client.loop_start()
    connected.wait(10)
    start = time.perf_counter()
    for number in range(findings):
        if number >= WINDOW:
            answered.acquire()
        client.publish(TOPICS.finding, payload(number), qos=1)
    for _ in range(min(WINDOW, findings)):
        answered.acquire()
    elapsed = time.perf_counter() - start
    client.disconnect()
    client.loop_stop()
    return findings / elapsed


def _device(folder: Path, port: int) -> tuple[Outbox, Connection]:
    database = Database(folder / "agent.db")
    outbox = Outbox(database)
    connection = Connection(
        Broker("127.0.0.1", port),
        TOPICS,
        outbox,
        receipts=False,
        birth=lambda: b"{}",
        command=lambda _name, _payload: None,
        changed=lambda _online, _why: None,
        refused=lambda *_: None,
    )
    database.watch(connection.wake)
    return outbox, connection


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.002)


def _start_mosquitto(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/sbin")
    if program is None:
        sys.exit("error: mosquitto is not installed: apt-get install mosquitto")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
    broker = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL)
    while True:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return broker, port
        time.sleep(0.01)


_SUBSCRIBER = """
import sys
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
client = Client(CallbackAPIVersion.VERSION2)
client.on_connect = lambda client, *_: client.subscribe("#", qos=0)
client.on_subscribe = lambda *_: print("ready", flush=True)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_forever()
"""


@click.command()
@click.option("--findings", default=3000, show_default=True, help="How many, in each of the three.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures there, too.")
def main(findings: int, path: Path | None) -> None:
    """Print durable findings a second, and their ratio to paho with nothing on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        broker, port = _start_mosquitto(Path(folder))
        listener = subprocess.Popen(
            [sys.executable, "-c", _SUBSCRIBER, str(port)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert listener.stdout
            listener.stdout.readline()
            # Interleaved, and the middle of three: other work on the machine is in all of them alike.
            rounds = [[kind(port, findings) for kind in (durable, backlog, memory)] for _ in range(3)]
        finally:
            listener.terminate()
            broker.terminate()
            listener.wait()
            broker.wait()
    rates = {
        name: round(sorted(column)[1])
        for name, column in zip(("durable", "backlog", "memory"), zip(*rounds, strict=True), strict=True)
    }
    result = {"findings": findings, "payload_bytes": PAYLOAD_BYTES, "window": WINDOW, **rates}
    result["ratio"] = round(rates["durable"] / rates["memory"], 3)
    result["drain_ratio"] = round(rates["backlog"] / rates["memory"], 3)
    text = json.dumps(result)
    print(text)
    if path:
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
