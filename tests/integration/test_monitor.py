"""The real monitor and the real agent around a real mosquitto: nothing is lost, whatever is killed."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge.mqtt.payloads import Ack
from tests.integration.conftest import Mosquitto, Subscriber, free_port, wait_for

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
UP = "scanwright/clinic/cart-1/up/finding"


def payload(number: int, **changes: object) -> str:
    finding = {
        "id": f"{number:032x}",
        "site": "clinic",
        "device": "cart-1",
        "stamp": {"at": "2026-01-01T00:00:00Z", "clock_trusted": True, "monotonic_s": 1.0, "boot_id": "b"},
        "case_code": "AAAA-0001",
        "study": "0" * 32,
        "source": "folder",
        "bundle": {
            "name": "tiny",
            "version": "1.0.0",
            "sha256": "0" * 64,
            "target": "raspberry-pi-5",
            "signed": False,
        },
        "decision": "negative",
    }
    return json.dumps(finding | changes)


class Monitor:
    """The command, with its store and its log."""

    def __init__(self, folder: Path, port: int) -> None:
        self.store, self.log = folder / "findings.db", folder / "monitor.log"
        self._url = f"mqtt://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        store = f"sqlite:///{self.store}"
        said = ["monitor", "--broker", self._url, "--store", store, "--no-page"]
        return [sys.executable, "-m", "edge.cli", *said]

    def start(self) -> None:
        said = self.said("receiving findings")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        wait_for(lambda: self.said("receiving findings") > said)

    def said(self, what: str) -> int:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return sum(line.endswith(f"INFO {what}") or f"WARNING {what}" in line for line in lines)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(10)

    def ids(self) -> list[str]:
        with closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True)) as database:
            return [id_ for (id_,) in database.execute("SELECT id FROM finding ORDER BY seq")]


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Callable[[int], Monitor]]:
    made: list[Monitor] = []

    def make(port: int) -> Monitor:
        made.append(Monitor(tmp_path, port))
        return made[-1]

    yield make
    for one in made:
        if one.process and one.process.poll() is None:
            one.end(signal.SIGKILL)


def acknowledged(watcher: Subscriber, device: str = "cart-1") -> set[str]:
    acks = watcher.topics(f"scanwright/clinic/{device}/down/ack")
    return {id_ for ack in acks for id_ in Ack.model_validate_json(ack).ids}


def test_findings_are_stored_once_receipted_and_nonsense_is_not(mosquitto, subscriber, monitor):
    broker: Mosquitto = mosquitto()
    broker.start()
    watcher: Subscriber = subscriber(broker.port)
    receiver: Monitor = monitor(broker.port)
    receiver.start()
    for number in (1, 2, 2):
        watcher.publish(UP, payload(number))
    hostile = [payload(7, device="cart-2"), payload(8, decision="sure"), "nonsense", "[" * 50_000, ""]
    for text in hostile:
        watcher.publish(UP, text)
    watcher.publish("scanwright/clinic/cart-2/up/finding", payload(1, device="cart-2"))
    watcher.publish(UP, payload(3))
    wait_for(lambda: acknowledged(watcher) >= {f"{3:032x}"})
    wait_for(lambda: acknowledged(watcher, "cart-2"))
    assert acknowledged(watcher) == {f"{number:032x}" for number in (1, 2, 3)}
    assert acknowledged(watcher, "cart-2") == {f"{1:032x}"}
    assert receiver.end() == 0
    assert sorted(receiver.ids()) == [f"{number:032x}" for number in (1, 1, 2, 3)]
    assert "4 findings stored, 1 came again, 5 messages refused" in receiver.log.read_text()


def test_what_arrives_while_the_receiver_is_away_is_brought_to_it(mosquitto, subscriber, monitor):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    receiver = monitor(broker.port)
    receiver.start()
    receiver.end(signal.SIGKILL)
    for number in range(50):
        watcher.publish(UP, payload(number))
    assert not acknowledged(watcher)
    receiver.start()
    wait_for(lambda: len(acknowledged(watcher)) == 50)
    assert receiver.end() == 0
    assert len(receiver.ids()) == 50


def test_a_receiver_whose_store_cannot_be_written_receipts_nothing_until_it_can(
    mosquitto, subscriber, monitor
):
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    receiver = monitor(broker.port)
    receiver.start()
    with closing(sqlite3.connect(receiver.store, isolation_level=None)) as blocking:
        blocking.execute("BEGIN IMMEDIATE")
        watcher.publish(UP, payload(1))
        wait_for(lambda: receiver.said("not receiving (the store cannot be written"), 30)
        assert not acknowledged(watcher)
        blocking.execute("ROLLBACK")
    wait_for(lambda: acknowledged(watcher) == {f"{1:032x}"})
    assert receiver.end() == 0


def test_a_receiver_waits_for_its_broker_and_a_second_one_is_refused(mosquitto, subscriber, monitor):
    broker = mosquitto()
    receiver = monitor(broker.port)
    with receiver.log.open("wb") as log:
        receiver.process = subprocess.Popen(receiver.command(), stdout=log, stderr=log)
    wait_for(lambda: receiver.said("not receiving"))
    second = subprocess.run(receiver.command(), capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 1
    assert "another monitor" in second.stderr and len(second.stderr.splitlines()) == 1
    broker.start()
    wait_for(lambda: receiver.said("receiving findings"))
    watcher = subscriber(broker.port)
    watcher.publish(UP, payload(1))
    wait_for(lambda: acknowledged(watcher))
    assert receiver.end(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--broker", "http://host"], "mqtt://HOST"),
        (["--broker", "mqtt://user:secret@host"], "mqtt://HOST"),
        (["--broker", "mqtts://host"], "--ca"),
        (["--store", "postgresql://host"], "sqlite:///PATH"),
        (["--password-file", "missing"], "missing"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(tmp_path, arguments, words):
    command = [sys.executable, "-m", "edge.cli", "monitor", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert words in done.stderr and len(done.stderr.splitlines()) == 1
    assert "secret" not in done.stderr


def test_kills_of_agent_broker_and_receiver_lose_nothing(mosquitto):
    mosquitto()  # or skip
    kills = ["--kills", "6", "--broker-kills", "3", "--receiver-kills", "3", "--seed", str(free_port())]
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), *kills]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["lost"] == result["waiting"] == 0
    assert result["distinct_ids"] == result["frames"] >= 12
