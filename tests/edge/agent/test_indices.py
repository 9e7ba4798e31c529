"""No question that is asked again and again reads a table that grows from end to end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.agent import outbox, studies
from edge.agent.audit import Audit
from edge.agent.cases import Cases
from edge.agent.clock import Clock
from edge.agent.config import SpoolConfig
from edge.agent.database import Database
from edge.agent.identity import Identity
from edge.agent.outbox import Outbox
from edge.agent.recorder import Recorder
from edge.agent.results import UNREPORTED
from edge.agent.spool import Kept, Spool
from edge.agent.store import Store
from edge.agent.vault import Vault
from edge.imaging.patient import Patient
from edge.mqtt.topics import Topics

GROWING = "outbox|finding|study|original|patient|seen|nonce"
# The newest or the oldest few, in the order in which they lie; so does the index of what is to be reported.
BY_ROW = re.compile(r"ORDER BY (finding\.)?seq( DESC)? LIMIT")


class Traced:
    """A database that remembers how each statement was carried out."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder / "agent.db")
        self.statements: set[str] = set()
        for connection in (self.database._writer, self.database._reader):
            connection.set_trace_callback(self.statements.add)

    def slow(self) -> list[str]:
        """Statements with what makes each slow."""
        for connection in (self.database._writer, self.database._reader):
            connection.set_trace_callback(None)
        found = []
        for sql in self.statements:
            if not re.match(r"SELECT|UPDATE|DELETE|INSERT", sql.strip()):
                continue
            for row in self.database.read(f"EXPLAIN QUERY PLAN {sql}"):
                scanned = re.match(rf"SCAN ({GROWING})(?!.*(COVERING INDEX|study_unreported))", row[3])
                if scanned and not BY_ROW.search(sql):
                    found.append(f"{row[3]}: {sql}")
        return found


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[Traced]:
    made = Traced(tmp_path)
    yield made
    made.database.close()


def test_the_trace_sees_a_scan(traced: Traced) -> None:
    traced.database.read("SELECT id FROM outbox WHERE payload = 'x'")
    assert len(traced.slow()) == 1


def test_screen_health_outbox_spool_and_senders_scan_nothing_that_grows(
    traced: Traced, tmp_path: Path
) -> None:
    database, identity, vault = traced.database, Identity(b"k" * 32), Vault(b"v" * 32)
    store, waiting, clock = Store(database), Outbox(database), Clock()
    recorder = Recorder(database, Topics("clinic", "cart"), clock)
    recorder.tell("info", "disk_back", "words")
    recorder.trim(by_age=True)
    recorder.close_studies(0)
    waiting.put("overlay", "o", "t", b"x").result()
    database.write(lambda c: outbox.set_aside(c, "o", 10)).result()
    waiting.bring_back(0, everything=True).result()
    waiting.bring_back(5, everything=False).result()
    waiting.next(20, "finding", 7)
    waiting.done(["o"]).result()
    waiting.counts(), waiting.aside(), waiting.oldest_s(), waiting.dropped(), waiting.last()
    store.latest(120, pictures=False), store.get("0" * 32), store.waiting(), store.sequence()
    store.seen("x")
    store.purge(30, Audit(database, clock))
    database.write(lambda c: studies.close(c, "0" * 32)).result()
    database.read(UNREPORTED)
    cases = Cases(database, vault, identity)
    cases.keep("0" * 32, Patient(*"abcdefgh")).result()
    cases.of("0" * 32)
    cases.purge(30)
    for forwards in (True, False):
        spool = Spool(tmp_path / "spool", database, vault, identity, SpoolConfig(), forwards=forwards)
        traced.statements = {s for s in traced.statements if s != "SELECT name FROM original"}  # once a start
        spool.next(), spool.waiting(), spool.of("0" * 32), spool.custody("1.2.3")
        spool.make_room(1000), spool.make_room(10**18), spool.purge()
        spool.mark(Kept("x", "y"), forwarded=True, sop="1.2").result()
    assert len(traced.statements) > 25
    assert traced.slow() == []


def test_what_a_hundred_thousand_findings_leave_is_counted_at_once(traced: Traced) -> None:
    rows = [(f"{n:032x}", "finding", 0, "t", b"x" * 500, 0.0, 564) for n in range(100_000)]
    insert = (
        "INSERT INTO outbox (id, kind, priority, topic, payload, created, bytes) VALUES (?, ?, ?, ?, ?, ?, ?)"
    )
    traced.database.write(lambda c: c.executemany(insert, rows).rowcount).result()
    waiting = Outbox(traced.database)
    assert waiting.counts() == {"finding": 100_000, "event": 0, "overlay": 0}
    assert waiting.aside() == {"finding": 0, "event": 0, "overlay": 0}
    for which in ("counts", "aside"):
        traced.statements.clear()
        getattr(waiting, which)()
        (sql,) = traced.statements
        ((_, _, _, plan),) = traced.database.read(f"EXPLAIN QUERY PLAN {sql}")
        assert "COVERING INDEX outbox_order (priority=? AND aside" in plan  # no row is read
    assert [m.id for m in waiting.next(2, "finding", 99_997)] == [f"{n:032x}" for n in (99_997, 99_998)]
    assert traced.slow() == []
