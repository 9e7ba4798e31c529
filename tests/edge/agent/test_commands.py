from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.agent.clock import BUILT, Clock
from edge.agent.commands import Commands, InvalidCommandError
from edge.agent.database import Database

NOW = BUILT + timedelta(days=100)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = Database(tmp_path_factory.mktemp("commands") / "agent.db")
    yield opened
    opened.close()


def commands(database: Database, trusted: bool = True, **handlers: Callable[..., Any]) -> Commands:
    clock = Clock(now=NOW.timestamp, synchronized=lambda: trusted)
    return Commands(database, clock, {"ping": lambda _: {}, **handlers})


def order(nonce: str, at: datetime = NOW, **more: Any) -> bytes:
    said = {"correlation_id": "c", "issued_at": at.isoformat(), "nonce": nonce}
    return json.dumps(said | more).encode()


def test_a_command_is_carried_out_with_its_arguments(database):
    response = commands(database, add=lambda a: {"sum": a["x"] + 1}).answer(
        "add", order("nonce-01", arguments={"x": 1})
    )
    assert (response.ok, response.result, response.correlation_id) == (True, {"sum": 2}, "c")


@pytest.mark.parametrize("trusted", [True, False])
def test_a_nonce_is_taken_once_even_after_a_restart(database, trusted):
    nonce = f"nonce-once-{trusted}"
    assert commands(database, trusted).answer("ping", order(nonce)).ok
    refused = commands(database, trusted).answer("ping", order(nonce))
    assert not refused.ok and "nonce" in (refused.error or "")


@pytest.mark.parametrize("minutes", [-6, 6])
def test_an_old_or_future_command_is_refused_when_the_clock_is_trusted(database, minutes):
    at = NOW + timedelta(minutes=minutes)
    assert "five minutes" in (commands(database).answer("ping", order(f"nonce-t{minutes}", at)).error or "")
    assert commands(database, trusted=False).answer("ping", order(f"nonce-u{minutes}", at)).ok


def test_an_unknown_command_is_refused_by_name(database):
    response = commands(database).answer("explode", order("nonce-unknown"))
    assert not response.ok and "ping" in (response.error or "")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        order("nonce-extra", surprise=1),
        order("short"),
        b'{"nonce": "12345678"}',
    ],
)
def test_what_is_no_command_is_told_apart(database, payload):
    with pytest.raises(InvalidCommandError):
        commands(database).answer("ping", payload)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200)
    | st.recursive(st.text() | st.none(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_no_bytes_make_it_stumble(database, payload):
    with pytest.raises(InvalidCommandError):
        commands(database).answer("ping", payload)


def test_times_need_a_zone(database):
    naive = json.dumps({"correlation_id": "c", "issued_at": "2026-12-01T00:00:00", "nonce": "nonce-naive"})
    with pytest.raises(InvalidCommandError, match="issued_at"):
        commands(database).answer("ping", naive.encode())


def test_the_clock_is_trusted_only_when_synchronized_and_not_before_it_was_built():
    before = BUILT - timedelta(days=1)
    assert Clock(NOW.timestamp, lambda: True).trusted()
    assert not Clock(NOW.timestamp, lambda: False).trusted()
    assert not Clock(before.timestamp, lambda: True).trusted()


def test_a_stamp_names_the_boot_and_the_time():
    stamp = Clock().stamp()
    assert len(stamp.boot_id) == 36
    assert abs(stamp.at - datetime.now(timezone.utc)) < timedelta(seconds=5)
    assert stamp.monotonic_s > 0
    assert isinstance(stamp.clock_trusted, bool)


def test_reading_needs_no_file(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("edge.agent.clock._TIMESYNCD", tmp_path / "synchronized")
    without = Clock().trusted()
    (tmp_path / "synchronized").touch()
    assert Clock().trusted() >= without
