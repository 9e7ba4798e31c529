"""The fleet's program around a real mosquitto, SQLite and PostgreSQL, and a real cart."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from fleet import Simulated, png
from page_client import PASSWORD, PageClient
from sqlalchemy import select

from edge.monitor.store import accounts, audit, commands, fleet, reviews
from edge.monitor.store.database import Database
from edge.mqtt.payloads import Ack
from tests.integration.conftest import Mosquitto, Postgres, Subscriber, wait_for

pytestmark = pytest.mark.integration


class Monitor:
    """The command over a store, and what is in that store."""

    def __init__(self, folder: Path, port: int, url: str, *options: str) -> None:
        self.log = folder / f"monitor-{time.monotonic_ns()}.log"
        self.url = url
        broker = f"mqtt://127.0.0.1:{port}"
        self._command = ["monitor", "--broker", broker, "--store", url, "--port", "0", *options]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "edge.cli", *self._command]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(lambda: "receiving findings" in self.said())

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    @property
    def page(self) -> str:
        return next(line for line in self.said().splitlines() if line.startswith("page: "))[6:]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Callable[..., Monitor]]:
    made: list[Monitor] = []

    def make(port: int, url: str, *options: str) -> Monitor:
        made.append(Monitor(tmp_path, port, url, *options))
        return made[-1]

    yield make
    for one in made:
        if one.process and one.process.poll() is None:
            one.end(signal.SIGKILL)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'fleet.db'}"
    url: str = request.getfixturevalue("postgres").database()
    return url


def receipted(watcher: Subscriber, cart: Simulated) -> set[str]:
    acks = watcher.topics(cart.topics.ack)
    return {id_ for ack in acks for id_ in Ack.model_validate_json(ack).ids}


def events(database: Database) -> dict[str, Any]:
    return {event.code: event for event in fleet.events(database, 200, origin="monitor")}


def test_everything_carts_say_is_kept_and_what_is_wrong_is_named(mosquitto, subscriber, monitor, store_url):
    broker: Mosquitto = mosquitto()
    broker.start()
    watcher: Subscriber = subscriber(broker.port)
    cart, clone = Simulated("clinic", "cart-1", "boot-a"), Simulated("clinic", "cart-1", "boot-b")
    receiver = monitor(broker.port, store_url, "--no-page")
    watcher.publish(*cart.online(), retain=True)
    watcher.publish(*cart.birth(), retain=True)
    receiver.start()
    weeks_ago = datetime.now(timezone.utc) - timedelta(weeks=3)
    for said in (
        cart.health(),
        cart.finding("positive", 0.9),
        cart.finding("negative", 0.1, at=weeks_ago, backfill=True),
        (cart.topics.overlay("a" * 32), png()),
        cart.event("clock_stepped"),
        clone.birth(),
        cart.birth(),
        cart.health(datetime.now(timezone.utc) + timedelta(days=3000)),
        (cart.topics.finding, b"nonsense"),
        (cart.topics.finding.replace("cart-1", "cart-2"), cart.finding()[1]),
        (cart.topics.ack, Ack(ids=("f" * 32,)).model_dump_json().encode()),
        ("scanwright/<script>/x/up/finding", b"{}"),
    ):
        watcher.publish(*said)
    wait_for(lambda: len(receipted(watcher, cart)) == 3)
    with closing(Database(store_url)) as database:
        wanted = {"identity_twice", "clock_wrong", "message_refused", "message_forged", "receipt_forged"}
        wait_for(lambda: set(events(database)) >= wanted)
        assert events(database)["message_forged"].device == "cart-2"
        rows = fleet.findings(database, fleet.Filter(), 10)
        assert len(rows) == 2 and rows[1].at == pytest.approx(weeks_ago.timestamp(), abs=1)
        row = fleet.device(database, "clinic", "cart-1")
        assert row.online and row.twice_at and row.temperature_celsius == 52.0
        assert fleet.overlay(database, "clinic", "cart-1", "a" * 32) == png()
        assert fleet.device(database, "clinic", "cart-2") is None
    assert receiver.end() == 0
    assert "2 findings stored" in receiver.said() and "3 messages refused" in receiver.said()


def test_postgresql_gone_for_a_while_loses_nothing(mosquitto, subscriber, monitor, postgres):
    cluster: Postgres = postgres
    broker = mosquitto("max_queued_messages 0")
    broker.start()
    watcher, cart = subscriber(broker.port), Simulated("clinic", "cart-1")
    receiver = monitor(broker.port, cluster.database())
    receiver.start()
    watcher.publish(*cart.finding())
    wait_for(lambda: len(receipted(watcher, cart)) == 1)
    cluster.stop()
    try:
        for _ in range(200):
            watcher.publish(*cart.finding())
        wait_for(lambda: "not receiving (the store cannot be written" in receiver.said())
        assert len(receipted(watcher, cart)) == 1
        wait_for(lambda: PageClient(receiver.page).get("/healthz").status == 503)
    finally:
        cluster.start()
    wait_for(lambda: len(receipted(watcher, cart)) == 201)
    with closing(Database(receiver.url)) as database:
        assert fleet.count_findings(database, fleet.Filter()) == {"negative": 201}
        wait_for(lambda: "store_back" in events(database))
    assert receiver.end() == 0
    assert "secret" not in receiver.said()


def test_workers_of_a_group_share_the_work_and_each_finding_is_kept_once(
    mosquitto, subscriber, monitor, postgres
):
    broker = mosquitto("max_queued_messages 0")
    broker.start()
    watcher = subscriber(broker.port)
    url = postgres.database()
    workers = [monitor(broker.port, url, "--workers-group", "fleet", "--no-page") for _ in range(2)]
    for worker in workers:
        worker.start()
    carts = [Simulated("clinic", f"cart-{n}") for n in range(10)]
    for _ in range(20):
        for cart in carts:
            said = cart.finding()
            watcher.publish(*said)
            watcher.publish(*said)
    wait_for(lambda: all(len(receipted(watcher, cart)) == 20 for cart in carts))
    time.sleep(0.5)
    for worker in workers:
        assert worker.end() == 0
    stored = [int(worker.said().split(" findings stored")[0].split()[-1]) for worker in workers]
    assert sum(stored) == 200 and min(stored) > 0
    with closing(Database(url)) as database:
        histogram = database.tables["histogram"]
        query = select(histogram.c.n).where(histogram.c.measure == "decision")
        assert sum(row.n for row in database.read(query)) == 200


def test_a_real_cart_obeys_the_page_and_learns_its_verdict(mosquitto, monitor, make_cart, tmp_path):
    broker = mosquitto()
    broker.start()
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    receiver = monitor(broker.port, url)
    receiver.start()
    cart = make_cart(broker.port)
    cart.config["mqtt"]["receipts"] = True
    cart.config["screen"] = {"port": 0}
    cart.start()
    cart.feed(1)
    with closing(Database(url)) as database:
        for name, role in (("amina", "engineer"), ("bo", "reviewer")):
            database.write(lambda c, n=name, r=role: accounts.add(c, database, n, r, PASSWORD, 1.0)).result()
        (row,) = wait_for(lambda: reviews.work(database, 5))
        amina, bo = PageClient(receiver.page), PageClient(receiver.page)
        assert amina.login("amina").status == bo.login("bo").status == 303
        where = f"/cart/{row.site}/{row.device}/command"
        for name in ("identify", "selftest", "log"):
            assert amina.post(where, csrf=amina.csrf(), command=name).status == 303

        def answered() -> bool:
            listed = commands.of_device(database, row.site, row.device, 9)
            return len(listed) == 3 and all(one.ok is not None for one in listed)

        wait_for(answered)
        said = {one.name: one for one in commands.of_device(database, row.site, row.device, 9)}
        assert said["identify"].ok and said["log"].ok, said["log"].error
        assert json.loads(said["selftest"].result)["pass"] is True
        assert "bundle loaded" in amina.get(f"/cart/{row.site}/{row.device}").text
        sent = {"csrf": bo.csrf(), "site": row.site, "device": row.device, "id": row.id}
        assert bo.post("/review", **sent, verdict="nothing").status == 303
        wait_for(lambda: not reviews.untold(database))
        verdict = reviews.latest(database, row.site, row.device, row.id)
        assert verdict.problem is None and verdict.agrees is False
        kinds = {entry.kind for entry in audit.entries(database, 50)}
        assert {"command", "verdict", "login"} <= kinds
    screen = PageClient(screen_of(cart))
    assert "A reviewer corrects" in screen.get(f"/?finding={row.id}").text
    assert cart.end() == 0
    assert receiver.end() == 0


def screen_of(cart: Any) -> str:
    lines = (json.loads(line) for line in cart.log.read_text().splitlines() if line.startswith("{"))
    url: str = next(line["url"] for line in lines if "url" in line)
    return url


def test_forty_simulated_carts_can_be_watched(mosquitto, monitor, tmp_path):
    broker = mosquitto()
    broker.start()
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    receiver = monitor(broker.port, url)
    receiver.start()
    command = ["monitor", "simulate", "--broker", f"mqtt://127.0.0.1:{broker.port}", "--seconds", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli", *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and "40 simulated carts" in done.stdout, done.stderr
    with closing(Database(url)) as database:
        wait_for(lambda: sum(fleet.count_findings(database, fleet.Filter()).values()) >= 480)
        database.write(lambda c: accounts.add(c, database, "vera", "viewer", PASSWORD, 1.0)).result()
        viewer = PageClient(receiver.page)
        viewer.login("vera")
        wait_for(lambda: "83 °C hot" in viewer.get("/").text)
    assert receiver.end() == 0
    assert "0 messages refused" in receiver.said()
