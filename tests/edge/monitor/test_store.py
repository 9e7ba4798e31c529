"""The store: what is kept is kept once, for good, at its own time; who asks for the impossible is told."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone

import pytest
from click.testing import CliRunner
from fleet import Simulated, png
from sqlalchemy import select, text

from edge.errors import BadInputError, ScanwrightError
from edge.monitor.cli import monitor
from edge.monitor.rollout_cli import rollout
from edge.monitor.store import audit, commands, fleet, keeping, reviews, shifts
from edge.monitor.store.database import Database, UnavailableError, statements
from edge.monitor.store.intake import MonitorEvent, keep, tell
from edge.monitor.upkeep import look_for_drift
from edge.mqtt.payloads import Ack, Response

NOW = 1_800_000_000.0
TODAY = datetime.fromtimestamp(NOW, timezone.utc)


def test_what_is_kept_is_synchronous_full_and_there_for_the_next(tmp_path, cart):
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    with closing(Database(url, receives=True)) as database:
        with database._writer.connect() as connection:
            assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
            assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        batch = [cart.heard(cart.finding()), cart.heard(cart.finding())]
        assert database.write(lambda c: keep(c, database, batch, NOW)).result().new == 2
        name = database.name
    with closing(Database(url, receives=True)) as again:
        assert len(fleet.findings(again, fleet.Filter(), 10)) == 2
        assert again.name == name


def test_an_id_is_kept_once_for_a_device_and_no_device_takes_anothers(database, put, cart):
    first = cart.finding()
    kept = put(first, first)
    assert kept.new == 1
    assert kept.findings == {("clinic", "cart-1"): [kept.findings["clinic", "cart-1"][0]] * 2}
    assert put(first).new == 0
    other = Simulated("clinic", "cart-2")
    id_ = kept.findings["clinic", "cart-1"][0]
    assert put(other.finding(id=id_), Simulated("other", "cart-1").finding(id=id_)).new == 2
    (row,) = fleet.findings(database, fleet.Filter(site="clinic", device="cart-1"), 10)
    assert row.payload.encode() == first[1]


def test_a_second_receiver_is_refused_but_others_may_read(tmp_path, database):
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    with pytest.raises(ScanwrightError, match="another monitor"):
        Database(url, receives=True)
    with closing(Database(url)) as reader:
        assert reader.name == database.name


def test_what_cannot_be_a_store_is_refused_by_name(tmp_path):
    (tmp_path / "text.db").write_text("this is no database, but it is long enough to be one" * 100)
    with pytest.raises(ScanwrightError, match=r"text\.db"):
        Database(f"sqlite:///{tmp_path / 'text.db'}")
    with pytest.raises(ScanwrightError, match="missing"):
        Database(f"sqlite:///{tmp_path / 'missing' / 'fleet.db'}", receives=True)
    with closing(Database(f"sqlite:///{tmp_path / 'new.db'}")):
        pass
    with closing(sqlite3.connect(tmp_path / "new.db")) as other:
        other.execute("INSERT INTO migration VALUES (99)")
        other.commit()
    with pytest.raises(ScanwrightError, match="newer monitor"):
        Database(f"sqlite:///{tmp_path / 'new.db'}")


def test_a_mistyped_store_is_named_and_not_made(tmp_path):
    url = f"sqlite:///{tmp_path / 'flet.db'}"
    run = CliRunner().invoke
    for command, arguments in (
        (monitor, ["user", "list"]),
        (monitor, ["user", "remove", "amina"]),
        (monitor, ["export", "--out", str(tmp_path / "out")]),
        (rollout, ["status"]),
        (rollout, ["start", "chest", "1.1.0"]),
        (rollout, ["pause", "chest-1.1.0-3f9a"]),
    ):
        error = run(command, [*arguments, "--store", url]).exception
        assert isinstance(error, BadInputError) and f"--store {url}: there is no store here" in str(error)
    sqlite3.connect(tmp_path / "flet.db").execute("CREATE TABLE patient (name TEXT)")
    with pytest.raises(BadInputError, match="there is no store here"):
        Database(url, create=False)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("flet.db-")] == ["flet.db"]


@pytest.mark.parametrize(
    ("option", "value"), [("--failures", "nan"), ("--wait", "9" * 400 + "d"), ("--stages", "5,nan")]
)
def test_a_rollouts_wrong_figure_is_named(tmp_path, option, value):
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    error = CliRunner().invoke(rollout, ["start", "chest", "1.1.0", option, value, "--store", url]).exception
    assert isinstance(error, BadInputError) and str(error).startswith(f"{option}: ")


@pytest.mark.parametrize("url", ["fleet.db", "mysql://host/x", "sqlite:///", "postgresql://u:secret@host"])
def test_other_stores_are_refused_without_their_password(url):
    with pytest.raises(BadInputError, match="sqlite:///PATH") as caught:
        Database(url)
    assert "secret" not in str(caught.value)


def test_migrations_say_the_same_to_both_databases():
    from importlib.resources import files

    script = (files("edge.monitor.store") / "migrations" / "0001_first.sql").read_text("utf-8")
    assert len(statements(script, "sqlite")) == len(statements(script, "postgresql")) > 20
    assert "BYTEA" in "".join(statements(script, "postgresql"))


def test_a_store_that_cannot_be_written_says_so_and_goes_on_later(tmp_path, database, put, cart):
    with closing(sqlite3.connect(tmp_path / "fleet.db", isolation_level=None)) as blocking:
        blocking.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="cannot be written"):
            put(cart.finding())
        blocking.execute("ROLLBACK")
    assert put(cart.finding()).new == 1


def test_an_action_that_fails_harms_none_that_is_committed_with_it(database, put, cart):
    def broken(connection):
        raise ValueError("mine alone")

    futures = [database.write(broken) if n % 3 == 1 else database.write(lambda c: 7) for n in range(9)]
    assert [f.result() for n, f in enumerate(futures) if n % 3 != 1] == [7] * 6
    assert all(isinstance(f.exception(), ValueError) for n, f in enumerate(futures) if n % 3 == 1)


def test_a_cart_is_known_by_its_last_words(database, put, cart):
    put(cart.online(), cart.birth(), cart.health(backlog=3), received=NOW)
    put(cart.health(backlog=5, temperature_celsius=71.5), received=NOW + 60)
    put(cart.online(False), received=NOW + 90)
    row = fleet.device(database, "clinic", "cart-1")
    assert (row.online, row.online_since, row.last_heard) == (False, NOW + 90, NOW + 60)
    assert (row.backlog, row.temperature_celsius, row.bundles) == (5, 71.5, "chest 1.0.0")
    put(cart.online(False), received=NOW + 200)
    assert fleet.device(database, "clinic", "cart-1").online_since == NOW + 90
    assert len(fleet.samples(database, "clinic", "cart-1", 0)) == 1


def test_a_cart_known_only_from_what_the_broker_kept_was_never_heard(database, cart):
    from edge.monitor.hearing import hear

    batch = [hear(*cart.birth(), NOW, retained=True), hear(*cart.online(), NOW, retained=True)]
    database.write(lambda c: keep(c, database, batch, NOW)).result()
    assert fleet.device(database, "clinic", "cart-1").last_heard == 0.0


def test_a_late_finding_lands_at_its_time_and_does_not_set_the_last_good_case_back(database, put, cart):
    put(cart.finding(at=TODAY, case_code="AAAA-0002"), received=NOW)
    weeks_ago = TODAY - timedelta(weeks=3)
    put(cart.finding(at=weeks_ago, backfill=True, case_code="AAAA-0001"), received=NOW + 5)
    put(cart.finding("no_result", None, at=TODAY + timedelta(seconds=9)), received=NOW + 9)
    rows = fleet.findings(database, fleet.Filter(), 10)
    assert [row.at for row in rows] == [NOW + 9, NOW, weeks_ago.timestamp()]
    row = fleet.device(database, "clinic", "cart-1")
    assert (row.last_good, row.last_good_case, row.last_finding) == (NOW, "AAAA-0002", NOW + 9)


def test_texts_that_postgresql_cannot_keep_are_made_harmless(database, put, cart):
    put(cart.birth(agent_version="1\x00"), cart.event("odd", "with \x00 in it"), received=NOW)
    assert fleet.device(database, "clinic", "cart-1").agent_version == "1\ufffd"
    assert "\x00" not in fleet.events(database, 5)[0].message


def test_numbers_beyond_measure_are_kept_as_the_largest(database, put, cart):
    put(cart.health(backlog=10**300), received=NOW)
    assert fleet.device(database, "clinic", "cart-1").backlog == 2**53


def test_receipts_for_findings_that_are_not_here_are_forged(database, put, cart):
    kept = put(cart.finding())
    known = kept.findings["clinic", "cart-1"]
    receipt = cart.topics.ack, Ack(ids=(*known, "f" * 32)).model_dump_json().encode()
    assert put(receipt).forged == {("clinic", "cart-1"): ["f" * 32]}


def test_events_of_the_monitor_are_told_once_for_their_key(database):
    event = MonitorEvent("drift_alarm", "moved", "clinic", key="drift:clinic")
    for _ in range(3):
        database.write(lambda c: tell(c, database, [event], NOW)).result()
    assert len(fleet.events(database, 10, origin="monitor")) == 1


def test_a_command_is_sent_once_and_its_answer_found(database, put, cart):
    def order(connection):
        return commands.order(
            connection, database, "clinic", "cart-1", "identify", {"seconds": 5}, "amina", NOW
        )

    id_ = database.write(order).result()
    assert commands.waiting(database)
    (one,) = database.write(lambda c: commands.claim(c, database, NOW)).result()
    assert (one.name, one.command.arguments) == ("identify", {"seconds": 5})
    assert not database.write(lambda c: commands.claim(c, database, NOW)).result()
    answer = Response(correlation_id=id_, ok=True, result={"shown": True}).model_dump_json().encode()
    stranger = Simulated("clinic", "cart-2").topics.response("identify")
    put((stranger, answer))
    assert commands.of_device(database, "clinic", "cart-1", 5)[0].ok is None
    put((cart.topics.response("identify"), answer))
    assert commands.of_device(database, "clinic", "cart-1", 5)[0].ok is True


def judge(database, row, labels):
    database.write(lambda c: reviews.add(c, database, row, labels, "bo", NOW)).result()


def test_the_work_list_begins_with_positives_and_the_uncertain(database, put, cart):
    put(
        cart.finding("negative", 0.02),
        cart.finding("negative", 0.48),
        cart.finding("no_result", None),
        cart.finding("positive", 0.97),
        cart.finding("positive", 0.55),
        cart.finding("positive", 0.9, test=True),
    )
    listed = [(row.decision, row.probability) for row in reviews.work(database, 10)]
    assert listed == [
        ("positive", 0.55),
        ("positive", 0.97),
        ("no_result", None),
        ("negative", 0.48),
        ("negative", 0.02),
    ]


def test_a_verdict_goes_to_the_cart_once_it_is_there_and_the_newest_counts(database, put, cart):
    put(cart.finding("positive", 0.9), cart.online(False))
    (row,) = reviews.work(database, 5)
    judge(database, row, ["pneumonia"])
    judge(database, row, [])
    assert not reviews.work(database, 5)
    assert reviews.latest(database, row.site, row.device, row.id).agrees is False
    database.write(lambda c: reviews.order_untold(c, database, NOW)).result()
    assert not commands.waiting(database)
    put(cart.online())
    database.write(lambda c: reviews.order_untold(c, database, NOW)).result()
    (one,) = database.write(lambda c: commands.claim(c, database, NOW)).result()
    assert one.name == "verdict"
    assert one.command.arguments["finding"] == row.id and one.command.arguments["labels"] == ""
    answer = Response(correlation_id=one.command.correlation_id, ok=True).model_dump_json().encode()
    put((cart.topics.response("verdict"), answer))
    assert not reviews.untold(database)
    (counted,) = reviews.judged(database, 0, NOW * 2)
    assert (counted.decision, counted.said, counted.labels, counted.n) == ("positive", "pneumonia", (), 1)


def test_the_audit_trail_shows_where_it_was_changed(database):
    for n in range(4):
        database.write(lambda c, n=n: audit.append(c, database, "amina", "login", {"n": n}, NOW)).result()
    assert audit.broken_at(database) is None
    with database._writer.begin() as connection:
        connection.execute(text("UPDATE audit SET actor = 'bo' WHERE seq = 3"))
    assert audit.broken_at(database) == 3


def test_what_is_old_is_let_go_and_health_is_thinned(database, put, cart):
    for minutes in range(0, 120, 10):
        put(cart.health(), received=NOW - 10 * 86400 + minutes * 60)
    old = cart.finding(at=TODAY - timedelta(days=800))
    put(old, received=NOW - 800 * 86400)
    put(cart.finding(at=TODAY), received=NOW)
    gone = keeping.purge(database, 730, NOW)
    assert gone == {"finding": 1, "health_sample": 10}
    assert len(fleet.samples(database, "clinic", "cart-1", 0)) == 2


def test_drift_is_told_once_a_day_after_a_baseline_of_whole_days(database, put, cart):
    day = TODAY - timedelta(days=20)
    for _ in range(3):
        put(*(cart.finding("negative", 0.05 + i % 10 / 40, at=day) for i in range(100)), received=NOW)
        day += timedelta(days=1)
    look_for_drift(database, NOW)
    baselines = database.read(select(database.tables["baseline"]))
    assert {row.first_day for row in baselines} == {int(NOW // 86400) - 20}
    put(*(cart.finding("negative", 0.05 + i % 10 / 40, at=TODAY) for i in range(250)), received=NOW)
    look_for_drift(database, NOW)
    assert not fleet.events(database, 9, origin="monitor")
    put(*(cart.finding("positive", 0.9, at=TODAY) for _ in range(300)), received=NOW)
    look_for_drift(database, NOW)
    look_for_drift(database, NOW + 60)
    told = fleet.events(database, 99, origin="monitor")
    assert {event.code for event in told} == {"drift_alarm"}
    assert len(told) == len({event.message for event in told}) == 3  # decision, and two probabilities
    model = ("clinic", "chest", "1.0.0")
    database.write(lambda c: shifts.forget(c, database, model, int(NOW // 86400))).result()
    assert not shifts.shifts(database, int(NOW // 86400))


def test_an_overlay_is_kept_beside_its_finding(database, put, cart):
    put((cart.topics.overlay("a" * 32), png()))
    assert fleet.overlay(database, "clinic", "cart-1", "a" * 32) == png()
    assert fleet.overlay(database, "clinic", "cart-2", "a" * 32) is None
