"""Several monitors on one PostgreSQL take the steps of a rollout together: nobody is ordered twice."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from sqlalchemy import select

from edge.monitor import rollouts
from edge.monitor.rollout import Plan
from edge.monitor.store import audit
from edge.monitor.store.database import Database
from tests.edge.monitor.test_rollouts import Fleet

pytestmark = pytest.mark.integration


def test_three_workers_order_each_cart_once(postgres):
    url = postgres.database()
    workers = [Database(url) for _ in range(3)]
    try:
        fleet = Fleet(workers[0], 30)
        now = time.time()
        plan = Plan(stages=(1.0,), wait_s=0)
        rollouts.start(workers[0], "chest", "1.1.0", "", plan, "test", now)
        problems: list[BaseException] = []

        def work(database: Database) -> None:
            try:
                for number in range(4):
                    rollouts.step(database, now + number)
            except BaseException as error:  # noqa: BLE001  told below
                problems.append(error)

        threads = [threading.Thread(target=work, args=(database,)) for database in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        command = workers[0].tables["command"]
        ordered = Counter(row.device for row in workers[0].read(select(command.c.device)))
        assert set(ordered.values()) == {1} and len(ordered) == 30
        for key in fleet.take_orders(now + 5):
            fleet.report(key, now + 6, version="1.1.0", result="committed", result_version="1.1.0")
        rollouts.step(workers[2], now + 7)
        assert rollouts.views(workers[1])[0].state == "done"
        assert audit.broken_at(workers[0]) is None
    finally:
        for database in workers:
            database.close()
