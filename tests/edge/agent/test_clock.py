from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml

from edge.agent.audit import Audit
from edge.agent.certificates import due, validity
from edge.agent.clock import BUILT, Clock, TimeFloor, corrected, note_offset
from edge.agent.config import Tls
from edge.agent.database import Database
from edge.agent.outbox import Outbox
from edge.agent.recorder import Recorder
from edge.agent.watch import Watch
from edge.cli import main
from edge.errors import BadInputError
from edge.keys.authority import Authority
from edge.mqtt.payloads import Event
from edge.mqtt.topics import Topics

NOW = datetime(2027, 5, 1, tzinfo=timezone.utc)
TEN_YEARS = timedelta(days=3653)


class Cart:
    """A device whose clocks are set by hand."""

    def __init__(self, folder: Path, tls: Tls | None = None) -> None:
        self.wall, self.monotonic, self.synchronized = NOW, 100.0, True
        self.database = Database(folder / "agent.db")
        self.floor = TimeFloor(folder / "clock")
        self.clock = Clock(
            now=lambda: self.wall.timestamp(),
            synchronized=lambda: self.synchronized,
            monotonic=lambda: self.monotonic,
            floor=self.floor,
        )
        self.recorder = Recorder(self.database, Topics("clinic", "cart-1"), self.clock)
        self.audit = Audit(self.database, self.clock)
        self.watch = Watch(self.database, self.recorder, self.audit, self.clock, self.floor, tls)

    def passes(self, seconds: float, looks: int = 1) -> None:
        for _ in range(looks):
            self.monotonic += seconds / looks
            self.wall += timedelta(seconds=seconds / looks)
            self.watch.look()

    def events(self) -> list[Event]:
        self.recorder.settle(everything=True)
        return [Event.model_validate_json(m.payload) for m in Outbox(self.database).next(1000, "event")]

    def codes(self) -> list[str]:
        return [event.code for event in self.events()]

    def audited(self) -> list[tuple[str, dict[str, object]]]:
        self.database.write(lambda _: None).result()
        return [(entry.kind, entry.data) for entry in self.audit.entries()]


@pytest.fixture
def cart(tmp_path) -> Iterator[Cart]:
    made = Cart(tmp_path)
    yield made
    made.database.close()


def test_a_clock_below_the_floor_is_never_trusted(cart):
    assert cart.clock.trusted()
    cart.synchronized = False
    assert not cart.clock.trusted()
    cart.synchronized, cart.wall = True, BUILT - timedelta(seconds=1)
    assert not cart.clock.trusted() and cart.clock.behind()


def test_the_floor_survives_a_restart_and_never_falls(tmp_path):
    floor = TimeFloor(tmp_path / "clock")
    assert floor() == BUILT
    floor.raise_to(NOW)
    floor.raise_to(NOW - TEN_YEARS)
    assert TimeFloor(tmp_path / "clock")() == NOW
    assert TimeFloor(tmp_path / "clock", NOW + TEN_YEARS)() == NOW + TEN_YEARS
    for damage in (b"", b"yesterday", b"\xff", b"2027"):
        (tmp_path / "clock").write_bytes(damage)
        assert TimeFloor(tmp_path / "clock")() >= BUILT


def test_the_floor_follows_a_clock_only_once_it_has_gone_evenly_for_a_while(cart, tmp_path):
    cart.passes(30, looks=30)
    assert TimeFloor(tmp_path / "clock")() == BUILT
    cart.passes(700, looks=70)
    assert NOW < TimeFloor(tmp_path / "clock")() <= cart.wall


def test_a_clock_that_jumps_ten_years_forward_and_back_is_told_and_leaves_the_floor(cart, tmp_path):
    cart.passes(700, looks=70)
    known = cart.floor()
    cart.wall += TEN_YEARS
    cart.passes(60, looks=60)
    assert cart.floor() == known, "a jump is not believed at once"
    cart.wall -= TEN_YEARS
    cart.passes(60, looks=60)
    steps = [data["seconds"] for kind, data in cart.audited() if kind == "clock_step"]
    assert steps == [pytest.approx(TEN_YEARS.total_seconds()), pytest.approx(-TEN_YEARS.total_seconds())]
    assert cart.codes() == ["clock_stepped", "clock_stepped"]
    assert cart.clock.trusted() and cart.audit.broken_at() is None


def test_a_clock_that_falls_back_ten_years_is_not_trusted_and_is_told_once(cart):
    cart.passes(700, looks=70)
    cart.wall -= TEN_YEARS
    cart.passes(60, looks=60)
    assert not cart.clock.trusted()
    assert cart.codes() == ["clock_stepped", "clock_behind"]
    (behind,) = [event for event in cart.events() if event.code == "clock_behind"]
    assert "2017" in behind.message and "2027" in behind.message


def test_small_corrections_of_the_time_service_are_not_steps(cart):
    for _ in range(100):
        cart.wall += timedelta(seconds=0.05)
        cart.passes(1)
    assert cart.codes() == [] and not cart.audited()


def test_times_of_a_boot_are_corrected_once_its_clock_is_known_and_the_records_stay(cart):
    cart.synchronized, cart.wall = False, datetime(2026, 12, 1, tzinfo=timezone.utc)
    cart.passes(10, looks=10)
    cart.recorder.tell("info", "early", "before the clock was known")
    cart.audit.add("start", {}).result()
    (early,) = (event.stamp for event in cart.events() if event.code == "early")
    assert early.corrected_at is None
    kept = cart.database.read("SELECT payload FROM outbox")
    cart.passes(50, looks=50)
    cart.synchronized, cart.wall = True, NOW
    cart.passes(1)
    cart.database.write(lambda _: None).result()
    (early,) = (event.stamp for event in cart.events() if event.code == "early")
    # 50 seconds before the clock was right; what it said then is still there.
    assert early.corrected_at == NOW - timedelta(seconds=50)
    assert early.at.year == 2026 and not early.clock_trusted
    start = next(entry for entry in cart.audit.entries() if entry.kind == "start")
    assert start.stamp["corrected_at"] == "2027-04-30T23:59:10Z"
    assert cart.database.read("SELECT payload FROM outbox")[: len(kept)] == kept
    assert cart.audit.broken_at() is None


def test_records_of_another_boot_are_not_corrected_by_this_one_s_clock(cart):
    stamp = cart.clock.stamp()
    note_offset(cart.database, stamp).result()
    other = stamp.model_copy(update={"boot_id": "another", "clock_trusted": False})
    payload = b'{"stamp":%b}' % other.model_dump_json().encode()
    assert corrected(cart.database, payload) == payload


def test_the_audit_log_cannot_be_changed_through_the_database(cart):
    for number in range(3):
        cart.audit.add("start", {"number": number}).result()
    for statement in (
        "UPDATE audit SET kind = 'x'",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT 1, stamp, 'x', data, previous, hash FROM audit WHERE seq = 1",
    ):
        with pytest.raises(Exception, match="append-only"):
            cart.database._writer.execute(statement)
    assert [data["number"] for _, data in cart.audited()] == [0, 1, 2]


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE audit SET data = '{\"number\": 7}' WHERE seq = 2", 2),
        ("DELETE FROM audit WHERE seq = 2", 2),
        ("DELETE FROM audit WHERE seq = 1", 1),
        ("UPDATE audit SET previous = zeroblob(32) WHERE seq = 3", 3),
    ],
)
def test_a_change_behind_the_triggers_breaks_the_chain(cart, statement, broken):
    for number in range(4):
        cart.audit.add("start", {"number": number}).result()
    assert cart.audit.broken_at() is None
    for trigger in ("changed", "deleted", "replaced"):
        cart.database._writer.execute(f"DROP TRIGGER audit_is_not_{trigger}")
    cart.database._writer.execute(statement)
    assert cart.audit.broken_at() == broken


@pytest.fixture
def tls(tmp_path) -> Tls:
    made = Authority.create("clinic", NOW - timedelta(days=100), None)
    device = Authority(made.certificate, made.key, None).issue(
        "clinic", "cart-1", "client", [], NOW + timedelta(days=61)
    )
    for name, data in (
        ("ca", made.certificate),
        ("authority", made.key),
        ("cert", device.certificate),
        ("key", device.key),
    ):
        (tmp_path / f"{name}.pem").write_bytes(data)
    return Tls(ca=tmp_path / "ca.pem", certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem")


def test_the_end_of_a_certificate_is_told_at_60_30_14_and_7_days_and_when_it_has_come(tmp_path, tls):
    cart = Cart(tmp_path, tls)
    told: list[tuple[int, str]] = []
    for day in range(64):
        cart.passes(86400)
        told += [(61 - day - 1, code) for code in cart.codes()[len(told) :]]
    assert told == [
        (60, "certificate_expiring"),
        (30, "certificate_expiring"),
        (14, "certificate_expiring"),
        (7, "certificate_expiring"),
        (0, "certificate_expired"),
    ]
    assert cart.watch.certificate_days() == pytest.approx(-3)
    cart.database.close()


def test_a_renewed_certificate_is_seen_without_a_restart_and_a_clock_behind_gains_no_days(tmp_path, tls):
    cart = Cart(tmp_path, tls)
    cart.passes(700, looks=70)
    days = cart.watch.certificate_days()
    cart.wall -= timedelta(days=90)
    assert cart.watch.certificate_days() == pytest.approx(days, abs=0.02)
    cart.wall += timedelta(days=90)
    authority = Authority((tmp_path / "ca.pem").read_bytes(), (tmp_path / "authority.pem").read_bytes(), None)
    renewed = authority.issue("clinic", "cart-1", "client", [], NOW + timedelta(days=825))
    (tmp_path / "cert.pem").write_bytes(renewed.certificate)
    cart.passes(7200, looks=2)
    assert cart.watch.certificate_days() == pytest.approx(824.9, abs=0.1)
    cart.database.close()


def test_what_is_no_certificate_is_named(tmp_path, tls):
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(BadInputError, match=r"ca\.pem"):
        validity(tls)


@pytest.mark.parametrize(
    ("days", "told", "notice"),
    [(61, None, None), (60, None, 60), (59, 60, None), (20, None, 30), (7, 14, 7), (-1, 7, 0), (-9, 0, None)],
)
def test_each_notice_is_due_once_and_only_the_last_that_was_passed(days, told, notice):
    assert due(days, told) == notice


@pytest.fixture
def behind(tmp_path) -> tuple[str, ...]:
    """``agent clock`` of a cart that knows of a time two minutes from now."""
    config = {
        "site": "clinic",
        "device": "cart-1",
        "state": "state",
        "bundles": ["tiny.swb"],
        "sources": [{"kind": "folder", "path": "."}],
    }
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "state").mkdir()
    TimeFloor(tmp_path / "state" / "clock").raise_to(datetime.now(timezone.utc) + timedelta(minutes=2))
    return ("agent", "clock", "--config", str(tmp_path / "agent.yaml"))


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    said = capsys.readouterr()
    return int(exit_.value.code or 0), said.out + said.err


def test_a_clock_behind_the_floor_is_refused_or_set_forward_to_it(capsys, behind, monkeypatch, tmp_path):
    set_to: list[float] = []
    monkeypatch.setattr(time, "clock_settime", lambda _clock, seconds: set_to.append(seconds))
    code, said = command(capsys, *behind)
    assert code == 1 and "at least" in said and not set_to
    code, said = command(capsys, *behind, "--set")
    assert code == 0 and set_to == [TimeFloor(tmp_path / "state" / "clock")().timestamp()]
    (tmp_path / "state" / "clock").unlink()
    code, said = command(capsys, *behind, "--set")
    assert code == 0 and said.startswith("ok") and len(set_to) == 1


def test_without_the_right_to_set_the_clock_that_is_said(capsys, behind, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(time, "clock_settime", refuse)
    code, said = command(capsys, *behind, "--set")
    assert code == 1 and "CAP_SYS_TIME" in said and len(said.splitlines()) == 1
