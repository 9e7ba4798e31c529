from __future__ import annotations

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from edge.agent.config import AgentConfig
from edge.agent.database import Database
from edge.agent.notify import Notifier
from edge.agent.service import Agent


class Systemd:
    """The receiving end of sd_notify(3): a real datagram socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self.environ = {"NOTIFY_SOCKET": address}

    def heard(self, for_s: float = 0.05) -> list[str]:
        """What comes within so long."""
        messages, end = [], time.monotonic() + for_s
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                messages.append(self._socket.recv(100).decode())
            except TimeoutError:
                break
        return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path: Path) -> Iterator[Systemd]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@scanwright-test-{os.getpid()}"
    receiver = Systemd(address)
    yield receiver
    receiver.close()


def test_it_says_ready_and_stopping_but_feeds_no_watchdog_that_is_not_there(systemd):
    notifier = Notifier(systemd.environ)
    notifier.ready()
    notifier.feed()
    notifier.stopping()
    assert systemd.heard() == ["READY=1", "STOPPING=1"]
    assert notifier.patience_s == float("inf")


def test_it_feeds_a_few_times_in_the_watchdogs_time_however_often_it_is_asked(systemd):
    notifier = Notifier(systemd.environ | {"WATCHDOG_USEC": "400000", "WATCHDOG_PID": str(os.getpid())})
    end = time.monotonic() + 0.4
    while time.monotonic() < end:
        notifier.feed()
        time.sleep(0.001)
    assert 3 <= systemd.heard().count("WATCHDOG=1") <= 5


def test_the_watchdog_of_another_process_is_not_fed(systemd):
    notifier = Notifier(systemd.environ | {"WATCHDOG_USEC": "400000", "WATCHDOG_PID": "1"})
    notifier.feed()
    assert systemd.heard() == []


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nowhere/notify"}])
def test_without_systemd_nothing_fails(environ):
    Notifier(environ | {"WATCHDOG_USEC": "1000"}).feed()
    Notifier(environ).ready()


@pytest.fixture
def service(tmp_path: Path, tiny_bundle, monkeypatch) -> Iterator[tuple[Agent, Systemd]]:
    """An agent under a watchdog of 0.8 seconds, not run yet."""
    receiver = Systemd(str(tmp_path / "notify"))
    for name, value in {**receiver.environ, "WATCHDOG_USEC": "800000"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "drop").mkdir()
    config = AgentConfig.model_validate(
        {
            "site": "clinic",
            "device": "cart-1",
            "state": tmp_path / "state",
            "bundles": [tiny_bundle(tmp_path / "tiny.swb")],
            "allow_unsigned": True,
            "sources": [{"kind": "folder", "path": tmp_path / "drop", "settle_s": 0.05, "poll_s": 0.02}],
            "mqtt": {"port": 9},
            "screen": None,
        }
    )
    yield Agent(config), receiver
    receiver.close()


def running(agent: Agent, stop: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=agent.run, args=(stop,))
    thread.start()
    return thread


def test_a_working_agent_is_ready_feeds_and_says_that_it_stops(service):
    agent, systemd = service
    stop = threading.Event()
    thread = running(agent, stop)
    heard = systemd.heard(1.5)
    stop.set()
    thread.join()
    assert heard[0] == "READY=1" and heard.count("WATCHDOG=1") >= 3
    assert systemd.heard()[-1] == "STOPPING=1"


def test_a_loop_that_hangs_stops_feeding(service, monkeypatch):
    agent, systemd = service
    hang, measured = threading.Event(), agent.health
    monkeypatch.setattr(agent, "health", lambda: hang.wait(30) and measured())
    stop = threading.Event()
    thread = running(agent, stop)
    systemd.heard(0.5)
    assert "WATCHDOG=1" not in systemd.heard(1.0)
    hang.set()
    assert "WATCHDOG=1" in systemd.heard(0.8)
    stop.set()
    thread.join()


def test_a_disk_that_hangs_stops_the_feeding_and_its_return_brings_it_back(service):
    agent, systemd = service
    hang = threading.Event()
    stop = threading.Event()
    thread = running(agent, stop)
    agent._database.write(lambda _: hang.wait(30))
    systemd.heard(0.8)
    assert "WATCHDOG=1" not in systemd.heard(0.8)
    hang.set()
    assert "WATCHDOG=1" in systemd.heard(0.8)
    stop.set()
    thread.join()


def test_a_full_disk_is_waited_for_under_a_fed_watchdog_and_no_frame_is_taken(service, tmp_path, picture):
    agent, systemd = service
    full = threading.Event()
    full.set()

    def fail(_connection: sqlite3.Connection) -> None:
        if full.is_set():
            raise sqlite3.OperationalError("database or disk is full")

    stop = threading.Event()
    thread = running(agent, stop)
    agent._database.write(fail)
    time.sleep(0.3)
    cv2.imwrite(str(tmp_path / "drop" / "one.png"), picture("lesion", 1))
    systemd.heard(0.3)
    assert "WATCHDOG=1" in systemd.heard(0.8)
    assert agent._database.failing and agent._counters.frames == 0
    full.clear()
    deadline = time.monotonic() + 10
    while agent.store.sequence() == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert agent.store.sequence() == 1 and not agent._database.failing
    stop.set()
    thread.join()


def test_the_writer_says_how_long_it_is_at_it(tmp_path):
    database = Database(tmp_path / "agent.db")
    hang = threading.Event()
    assert database.hung_s() == 0
    written = database.write(lambda _: hang.wait(10))
    time.sleep(0.2)
    assert 0.1 < database.hung_s() < 5
    hang.set()
    assert written.result()
    assert database.write(lambda _: database.hung_s()).result() < 0.2
    database.close()
    assert database.hung_s() == 0
