from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.agent import outbox, store
from edge.agent.audit import Audit
from edge.agent.clock import Clock
from edge.agent.database import Database
from edge.agent.outbox import Outbox
from edge.agent.store import Store
from edge.errors import ScanwrightError


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "agent.db")
    yield opened
    opened.close()


def test_writes_are_synchronous_full_in_wal(database):
    modes = database.write(
        lambda c: (
            c.execute("PRAGMA synchronous").fetchone()[0],
            c.execute("PRAGMA journal_mode").fetchone()[0],
        )
    )
    assert modes.result() == (2, "wal")


def test_many_writes_share_a_commit(database):
    commits = []
    database.watch(lambda: commits.append(1))
    outbox_ = Outbox(database)
    futures = [outbox_.put("finding", str(number), "t", b"") for number in range(500)]
    assert all(future.result() for future in futures)
    assert len(commits) < 100


def test_an_action_that_fails_for_a_while_is_repeated_with_its_whole_group(database, monkeypatch):
    monkeypatch.setattr("edge.agent.database._RETRY_S", 0.01)
    attempts = []

    def fails_twice(connection: sqlite3.Connection) -> int:
        store.mark(connection, "a")
        attempts.append(1)
        if len(attempts) < 3:
            raise sqlite3.OperationalError("database or disk is full")
        return len(attempts)

    assert database.write(fails_twice).result(5) == 3
    assert Store(database).seen("a")


def test_a_damaged_database_stops_and_lets_nobody_wait(tmp_path):
    database = Database(tmp_path / "agent.db")

    def damaged(_connection: sqlite3.Connection) -> int:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with pytest.raises(ScanwrightError, match="has stopped"):
        database.write(damaged).result(5)
    database._thread.join(5)
    with pytest.raises(ScanwrightError, match="closed"):
        database.write(lambda _connection: 0)
    database.close()


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path):
    path = tmp_path / "agent.db"
    path.write_text("not a database, but long enough to be read as one" * 100)
    with pytest.raises(ScanwrightError, match=r"agent\.db"):
        Database(path)


def test_a_database_of_a_newer_agent_is_refused(tmp_path):
    path = tmp_path / "agent.db"
    Database(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ScanwrightError, match="newer agent"):
        Database(path)


def test_what_waits_outlives_the_process(tmp_path):
    path = tmp_path / "agent.db"
    first = Database(path)
    Outbox(first).put("finding", "a" * 32, "topic", b"payload").result()
    first.close()
    second = Database(path)
    (message,) = Outbox(second).next(5, "finding")
    assert (message.id, message.topic, message.payload) == ("a" * 32, "topic", b"payload")
    second.close()


def test_what_a_killed_process_was_told_is_safe_is_there(tmp_path):
    path = tmp_path / "agent.db"
    program = (
        "import sys\nfrom pathlib import Path\nfrom edge.agent.database import Database\n"
        "from edge.agent.outbox import Outbox\noutbox = Outbox(Database(Path(sys.argv[1])))\n"
        "number = 0\n"
        "while True:\n"
        "    futures = [outbox.put('finding', str(number + i), 't', b'x' * 1000) for i in range(20)]\n"
        "    number += 20\n"
        "    [future.result() for future in futures]\n"
        "    sys.stdout.write(f'{number}\\n')\n"
        "    sys.stdout.flush()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    safe = 0
    while safe < 400:
        safe = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.wait()
    safe = int(rest[-1]) if rest else safe
    database = Database(path)
    there = {message.id for message in Outbox(database).next(100_000, "finding")}
    database.close()
    assert there >= {str(number) for number in range(safe)}


def test_the_same_id_waits_once(database):
    waiting = Outbox(database)
    assert waiting.put("finding", "a", "t", b"1").result()
    assert not waiting.put("finding", "a", "t", b"2").result()
    assert [message.payload for message in waiting.next(9, "finding")] == [b"1"]


def test_numbers_of_messages_are_never_used_again(database):
    waiting = Outbox(database)
    waiting.put("finding", "a", "t", b"").result()
    first = waiting.last()
    assert waiting.done(["a", "unknown"]).result() == 1
    waiting.put("finding", "b", "t", b"").result()
    assert waiting.last() > first


def test_findings_are_never_dropped_but_old_events_are(database, monkeypatch):
    monkeypatch.setattr(outbox, "_MOST", {"event": 10, "overlay": 5})
    waiting = Outbox(database)
    for number in range(30):
        waiting.put("finding", f"f{number}", "t", b"")
        waiting.put("event", f"e{number}", "t", b"")
    waiting.put("overlay", "o", "t", b"").result()
    assert waiting.counts() == {"finding": 30, "event": 10, "overlay": 1}
    assert waiting.next(1, "event")[0].id == "e20"


def test_the_oldest_waiting_message_gives_the_age(database):
    waiting = Outbox(database)
    assert waiting.oldest_s() is None
    waiting.put("finding", "a", "t", b"").result()
    age = waiting.oldest_s()
    assert age is not None and 0 <= age < 5


def _keep(database: Database, id_: str, image: bytes | None = None) -> None:
    database.write(lambda c: store.add(c, id_, f'{{"id":"{id_}"}}', image, None)).result()


def test_the_store_gives_the_newest_first_with_pictures(database):
    kept = Store(database)
    assert kept.sequence() == 0
    _keep(database, "a", b"png")
    _keep(database, "b")
    newest, older = kept.latest(5)
    assert (newest.id, newest.image, older.image, older.finding) == ("b", None, b"png", {"id": "a"})
    assert kept.latest(1)[0].id == "b"
    assert [found.image for found in kept.latest(5, pictures=False)] == [None, None]
    assert kept.sequence() == newest.seq
    found = kept.get("a")
    assert found and found.image == b"png"
    assert kept.get("c") is None


def test_a_finding_is_delivered_once_it_left_the_outbox(database):
    kept, waiting = Store(database), Outbox(database)
    _keep(database, "a")
    waiting.put("finding", "a", "t", b"").result()
    assert not kept.latest(1)[0].delivered
    assert kept.waiting() == 1
    waiting.done(["a"]).result()
    assert kept.latest(1)[0].delivered
    assert kept.waiting() == 0


def test_only_the_newest_findings_keep_their_pictures(database, monkeypatch):
    monkeypatch.setattr(store, "PICTURES", 3)
    for number in range(6):
        _keep(database, str(number), b"png")
    assert [found.image for found in Store(database).latest(6)] == [b"png"] * 3 + [None] * 3


def test_purging_spares_what_waits_to_be_delivered(database):
    kept, waiting = Store(database), Outbox(database)
    _keep(database, "waiting")
    _keep(database, "delivered")
    waiting.put("finding", "waiting", "t", b"").result()
    audit = Audit(database, Clock())
    kept.purge(1, audit)
    assert len(kept.latest(5)) == 2
    kept.purge(-1, audit)
    database.write(lambda _connection: None).result()
    assert [found.id for found in kept.latest(5)] == ["waiting"]


def test_a_key_is_marked_once(database):
    assert database.write(lambda c: store.mark(c, "a")).result()
    assert not database.write(lambda c: store.mark(c, "a")).result()
    assert Store(database).seen("a")
    assert not Store(database).seen("b")


def test_readers_in_many_threads_do_not_disturb_each_other(database):
    kept = Store(database)
    for number in range(50):
        _keep(database, str(number))
    wrong: list[int] = []

    def read() -> None:
        for _ in range(50):
            wrong.extend([1] if len(kept.latest(50)) != 50 else [])

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
