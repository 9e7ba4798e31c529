"""A defect in a thread stops the agent; a thread that outlives the database does not."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edge.agent.database import ClosedError, Database
from edge.agent.defects import defects_stop
from edge.errors import ScanwrightError


def run(target) -> None:
    thread = threading.Thread(target=target, name="forward")
    thread.start()
    thread.join()


def test_a_defect_in_a_thread_stops_the_agent_and_is_told_with_its_name() -> None:
    stop = threading.Event()
    with (
        pytest.raises(ScanwrightError, match=r"defect in 'forward' \(ZeroDivisionError\)"),
        defects_stop(stop),
    ):
        run(lambda: 1 / 0)
        assert stop.is_set()


def test_a_sender_whose_answer_comes_after_the_database_was_closed_stops_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "agent.db")
    database.close()
    stop = threading.Event()
    with defects_stop(stop):
        run(lambda: database.write(lambda connection: None))
        run(lambda: database.read("SELECT 1"))
    assert not stop.is_set()
    with pytest.raises(ClosedError, match="is closed"):
        database.read("SELECT 1")
