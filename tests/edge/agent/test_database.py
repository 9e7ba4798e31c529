from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest

from edge.agent import outbox, store
from edge.agent.audit import Audit
from edge.agent.clock import Clock
from edge.agent.config import OutboxConfig
from edge.agent.database import Database
from edge.agent.outbox import Kind, Outbox
from edge.agent.recorder import Recorder
from edge.agent.store import Store
from edge.errors import ScanwrightError
from edge.mqtt.topics import Topics


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


def test_a_database_of_a_newer_agent_is_refused_only_if_it_says_so(tmp_path):
    path = tmp_path / "agent.db"
    Database(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    Database(path).close()  # an agent that is tried, and given up, must leave a file that the older one reads
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE compatible SET oldest = 99")
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


def test_findings_are_never_dropped_but_old_events_are_and_each_is_counted(database, monkeypatch):
    monkeypatch.setattr(outbox, "_MOST", {"event": 10, "overlay": 5})
    waiting = Outbox(database)
    for number in range(30):
        waiting.put("finding", f"f{number}", "t", b"")
        waiting.put("event", f"e{number}", "t", b"")
    waiting.put("overlay", "o", "t", b"").result()
    assert waiting.counts() == {"finding": 30, "event": 10, "overlay": 1}
    assert waiting.next(1, "event")[0].id == "e20"
    assert waiting.dropped() == 20


def test_over_the_cap_of_bytes_the_oldest_overlays_go_then_the_oldest_events_and_never_a_finding(database):
    waiting, caps, large = Outbox(database), OutboxConfig(megabytes=1), b"x" * 100_000

    def put(kind: Kind, id_: str) -> None:
        database.write(lambda c: outbox.add(c, kind, id_, "t", large, caps)).result()

    for number in range(15):
        put("finding", f"f{number}")
    for number in range(8):
        put("overlay", f"o{number}")
    for number in range(4):
        put("event", f"e{number}")
    assert waiting.counts() == {"finding": 15, "event": 4, "overlay": 6}
    assert [message.id for message in waiting.next(9, "overlay")] == [f"o{n}" for n in range(2, 8)]
    for number in range(4, 12):
        put("event", f"e{number}")
    assert waiting.counts() == {"finding": 15, "event": 10, "overlay": 0}
    assert waiting.next(1, "event")[0].id == "e2"
    assert waiting.dropped() == 8 + 2


def test_what_waits_too_long_is_dropped_below_findings(database):
    waiting = Outbox(database)
    for kind in ("finding", "event", "overlay"):
        waiting.put(kind, kind, "t", b"")
    database.write(lambda c: c.execute("UPDATE outbox SET created = created - 86400 * 3").rowcount)
    waiting.put("event", "new", "t", b"")
    database.write(lambda c: outbox.drop_old(c, OutboxConfig(days=2))).result()
    assert waiting.counts() == {"finding": 1, "event": 1, "overlay": 0} and waiting.dropped() == 2


def test_drops_are_told_once_with_their_number(database):
    recorder = Recorder(database, Topics("clinic", "cart"), Clock(), OutboxConfig(days=2))
    waiting = Outbox(database)
    for number in range(3):
        waiting.put("overlay", str(number), "t", b"")
    database.write(lambda c: c.execute("UPDATE outbox SET created = created - 86400 * 3").rowcount)
    for _ in range(3):
        recorder.trim(by_age=True)
    recorder.settle(everything=True)
    (event,) = [json.loads(message.payload) for message in waiting.next(9, "event")]
    assert (event["code"], event["data"]) == ("messages_dropped", {"overlay": 3})


def test_what_is_set_aside_waits_apart_until_it_fits(database):
    waiting = Outbox(database)
    for id_, size in (("a", 10), ("b", 3000), ("c", 9000)):
        waiting.put("finding", id_, "t", b"x" * size)
    for id_, largest in (("b", 2000), ("c", 0)):
        assert database.write(lambda c, i=id_, n=largest: outbox.set_aside(c, i, n)).result()
    assert [message.id for message in waiting.next(9, "finding")] == ["a"]
    assert waiting.counts()["finding"] == 1 and waiting.aside()["finding"] == 2
    assert Store(database).waiting() == 1
    assert waiting.bring_back(2000, everything=False).result() == 0
    assert waiting.bring_back(5000, everything=False).result() == 1
    assert waiting.bring_back(0, everything=True).result() == 1
    assert waiting.counts()["finding"] == 3


def test_an_event_that_is_too_large_is_set_aside_without_another(database):
    recorder, waiting = Recorder(database, Topics("clinic", "cart"), Clock()), Outbox(database)
    waiting.put("event", "e", "t", b"")
    waiting.put("overlay", "o", "t", b"")
    recorder.set_aside("event", "e", 9000, 5000)
    recorder.set_aside("overlay", "o", 9000, 5000)
    recorder.set_aside("overlay", "o", 9000, 5000)
    recorder.settle(everything=True)
    assert [json.loads(m.payload)["code"] for m in waiting.next(9, "event")] == ["message_set_aside"]


def test_the_file_shrinks_again_after_a_drain(database):
    waiting = Outbox(database)
    ids = [str(number) for number in range(3000)]
    for id_ in ids:
        written = waiting.put("finding", id_, "t", b"x" * 5000)
    written.result()
    database.write(lambda c: None).result()
    waiting.done(ids).result()
    for _ in range(10):
        database.shrink().result()
    database.read("PRAGMA wal_checkpoint(TRUNCATE)")
    assert database.path.stat().st_size < 6_000_000, "it had been 17 MB"


def test_each_older_schema_is_brought_up_with_what_waits(tmp_path):
    scripts = sorted((files("edge.agent") / "migrations").iterdir(), key=lambda script: script.name)
    for version in range(1, len(scripts)):
        path = tmp_path / f"{version}.db"
        with closing(sqlite3.connect(path)) as old:
            for script in scripts[:version]:
                old.executescript(script.read_text("utf-8"))
            old.execute(f"PRAGMA user_version = {version}")
            old.execute(
                "INSERT INTO outbox (id, kind, priority, topic, payload, created)"
                " VALUES ('a', 'finding', 0, 't', x'616263', 1)"
            )
            old.execute("INSERT INTO finding (id, created, payload) VALUES ('a', 1, '{}')")
            old.commit()
        database = Database(path)
        assert database.read("PRAGMA user_version") == [(len(scripts),)]
        assert database.read("PRAGMA auto_vacuum") == [(2,)]
        assert [message.payload for message in Outbox(database).next(5, "finding")] == [b"abc"]
        assert Store(database).sequence() == 1
        assert Outbox(database).put("finding", "b", "t", b"").result()
        database.close()


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
