"""Rollouts in the store: begun once, moved on in steps that may be cut off, stopped by people."""

from __future__ import annotations

from typing import Any

import pytest
from fleet import BUNDLE, Simulated
from sqlalchemy import update

from edge.errors import BadInputError
from edge.monitor import rollouts
from edge.monitor.rollout import Plan
from edge.monitor.store import audit
from edge.monitor.store.commands import claim
from edge.monitor.store.intake import MonitorEvent, keep, tell
from edge.mqtt.payloads import SlotStatus

PLAN = Plan(stages=(0.2, 1.0), wait_s=100)
T = 1_800_000_000.0


class Fleet:
    """Carts that are connected and take updates as a real one does."""

    def __init__(self, database: Any, size: int = 5, site: str = "clinic") -> None:
        self.database = database
        self.carts = {(site, f"cart-{n}"): Simulated(site, f"cart-{n}") for n in range(size)}
        self.slots: dict[tuple[str, str], dict[str, Any]] = {}
        for key, one in self.carts.items():
            self.slots[key] = {"name": "chest", "version": "1.0.0"}
            self.hear(T, one.online(), one.birth())
            self.report(key, T)

    def hear(self, now: float, *said: tuple[str, bytes]) -> None:
        batch = [next(iter(self.carts.values())).heard(one, now) for one in said]
        self.database.write(lambda connection: keep(connection, self.database, batch, now)).result()

    def report(self, key: tuple[str, str], now: float, **slot: Any) -> None:
        self.slots[key] |= slot
        self.hear(now, self.carts[key].health(slots=(SlotStatus(**self.slots[key]),)))

    def take_orders(self, now: float, ok: bool = True, error: str | None = None) -> list[tuple[str, str]]:
        """What the monitor sends, answered at once; who was asked."""
        asked = self.database.write(lambda connection: claim(connection, self.database, now)).result()
        for one in asked:
            assert one.name == "update"
            assert one.command.arguments == {"name": "chest", "version": "1.1.0"}
            command = self.database.tables["command"]
            answer = {"answered_at": now, "ok": ok, "error": error}
            mine = command.c.id == one.command.correlation_id
            self.database.write(
                lambda connection, mine=mine, answer=answer, table=command: connection.execute(
                    update(table).where(mine).values(**answer)
                )
            ).result()
        return [(one.site, one.device) for one in asked]

    def states(self) -> list[str]:
        return [one.state for one in rollouts.views(self.database)[0].members]


@pytest.fixture
def fleet(database: Any) -> Fleet:
    return Fleet(database)


def begin(fleet: Fleet, **changes: Any) -> str:
    given = {
        "bundle": "chest",
        "version": "1.1.0",
        "site": "",
        "plan": PLAN,
        "by": "test",
        "now": T,
    } | changes
    return rollouts.start(fleet.database, **given)[0]


def test_canaries_then_all_then_done_with_every_step_in_the_audit_trail(fleet):
    id_ = begin(fleet)
    rollouts.step(fleet.database, T + 1)
    rollouts.step(fleet.database, T + 2)
    (canary,) = fleet.take_orders(T + 3)
    rollouts.step(fleet.database, T + 50)
    assert fleet.take_orders(T + 51) == []
    fleet.report(canary, T + 60, version="1.1.0", state="trial", pending="1.1.0")
    rollouts.step(fleet.database, T + 61)
    assert sorted(fleet.states()) == ["ordered"] + ["waiting"] * 4
    fleet.report(canary, T + 70, state="idle", pending=None, result="committed", result_version="1.1.0")
    rollouts.step(fleet.database, T + 71)
    rollouts.step(fleet.database, T + 160)
    assert fleet.take_orders(T + 161) == [], "it is watched for 100 s"
    rollouts.step(fleet.database, T + 172)
    rollouts.step(fleet.database, T + 173)
    rest = fleet.take_orders(T + 174)
    assert len(rest) == 4 and canary not in rest
    for key in rest:
        fleet.report(key, T + 180, version="1.1.0", result="committed", result_version="1.1.0")
    rollouts.step(fleet.database, T + 181)
    (view,) = rollouts.views(fleet.database, id_)
    assert (view.state, view.why) == ("done", "5 of 5 carts have it")
    kinds = [row.kind for row in reversed(audit.entries(fleet.database, 100))]
    assert kinds[:2] == ["rollout_started", "rollout_ordered"]
    assert kinds.count("rollout_ordered") == kinds.count("rollout_outcome") == 5
    assert "rollout_stage" in kinds and kinds[-1] == "rollout_done"
    assert audit.broken_at(fleet.database) is None


def test_a_step_that_is_cut_off_leaves_nothing_and_is_taken_again(fleet, monkeypatch):
    begin(fleet)
    ordered = rollouts.commands.order

    def cut(*given: Any) -> str:
        ordered(*given)
        raise KeyError("killed")

    monkeypatch.setattr(rollouts.commands, "order", cut)
    with pytest.raises(KeyError):
        rollouts.step(fleet.database, T + 1)
    assert fleet.take_orders(T + 2) == []
    assert set(fleet.states()) == {"waiting"}
    monkeypatch.undo()
    rollouts.step(fleet.database, T + 3)
    assert len(fleet.take_orders(T + 4)) == 1


def test_a_canary_that_goes_back_halts_it_and_a_person_may_go_on(fleet):
    id_ = begin(fleet)
    rollouts.step(fleet.database, T + 1)
    (canary,) = fleet.take_orders(T + 2)
    fleet.report(canary, T + 3, result="rolled_back", result_version="1.1.0", reason="disagrees")
    rollouts.step(fleet.database, T + 4)
    (view,) = rollouts.views(fleet.database)
    assert view.state == "halted"
    assert view.why == f"1 of 1 failed; {canary[0]}/{canary[1]}: rolled_back: disagrees"
    rollouts.step(fleet.database, T + 5000)
    assert fleet.take_orders(T + 5001) == []
    with pytest.raises(BadInputError, match="halted"):
        begin(fleet, version="1.2.0")
    assert rollouts.change(fleet.database, id_, "running", "test", T + 6000, "its disk is broken")
    assert not rollouts.change(fleet.database, id_, "running", "test", T + 6000)
    rollouts.step(fleet.database, T + 6101)
    rollouts.step(fleet.database, T + 6102)
    assert len(fleet.take_orders(T + 6103)) == 4


def test_drift_of_the_new_version_halts_and_of_another_does_not(fleet):
    begin(fleet)

    def drift(version: str, now: float) -> str:
        event = MonitorEvent("drift_alarm", "moved", "clinic", data={"bundle": "chest", "version": version})
        fleet.database.write(lambda connection: tell(connection, fleet.database, [event], now)).result()
        rollouts.step(fleet.database, now + 1)
        return rollouts.views(fleet.database)[0].state

    assert drift("1.0.0", T + 10) == "running"
    assert drift("1.1.0", T + 20) == "halted"


def test_paused_it_orders_nobody_and_what_has_begun_is_still_learned_of_later(fleet):
    id_ = begin(fleet)
    rollouts.step(fleet.database, T + 1)
    assert rollouts.change(fleet.database, id_, "paused", "test", T + 2)
    assert not rollouts.change(fleet.database, id_, "paused", "test", T + 2)
    (canary,) = fleet.take_orders(T + 3)
    fleet.report(canary, T + 4, version="1.1.0", result="committed", result_version="1.1.0")
    rollouts.step(fleet.database, T + 5)
    rollouts.change(fleet.database, id_, "running", "test", T + 6)
    rollouts.step(fleet.database, T + 7)
    assert sorted(fleet.states()) == ["done"] + ["waiting"] * 4
    assert rollouts.change(fleet.database, id_, "aborted", "test", T + 8)
    with pytest.raises(BadInputError, match="aborted already"):
        rollouts.change(fleet.database, id_, "running", "test", T + 9)
    with pytest.raises(BadInputError, match="no such rollout"):
        rollouts.change(fleet.database, "none", "running", "test", T + 9)


def test_a_cart_that_comes_weeks_later_or_is_new_gets_it(fleet):
    away, week = ("clinic", "cart-4"), 7 * 86400
    fleet.hear(T, fleet.carts[away].online(False))
    begin(fleet, plan=Plan(stages=(1.0,), wait_s=0))
    rollouts.step(fleet.database, T + 1)
    for key in fleet.take_orders(T + 2):
        fleet.report(key, T + 3, version="1.1.0", result="committed", result_version="1.1.0")
    rollouts.step(fleet.database, T + 4)
    view = rollouts.views(fleet.database)[0]
    assert (view.state, view.why) == ("running", "1 carts are away and get it when they come")
    late = T + 3 * week
    fleet.hear(late, fleet.carts[away].online())
    new = ("clinic", "cart-9")
    fleet.carts[new] = Simulated(*new)
    fleet.slots[new] = {"name": "chest", "version": "1.0.0"}
    fleet.hear(late, fleet.carts[new].online(), fleet.carts[new].birth())
    fleet.report(new, late)
    rollouts.step(fleet.database, late + 1)
    assert fleet.take_orders(late + 2) == [away, new]


def test_one_rollout_at_a_time_for_a_bundle_and_site(database):
    fleet = Fleet(database)
    Fleet(database, site="other")
    id_ = begin(fleet, site="clinic")
    assert rollouts.start(database, "chest", "1.1.0", "clinic", PLAN, "test", T) == (id_, False)
    for site in ("clinic", ""):
        with pytest.raises(BadInputError, match=id_):
            begin(fleet, site=site, version="1.2.0")
    begin(fleet, site="other", version="1.2.0")
    with pytest.raises(BadInputError, match="no cart"):
        begin(fleet, bundle="other")
    assert {view.site: len(view.members) for view in rollouts.views(database)} == {"clinic": 5, "other": 5}


def test_an_outcome_that_a_stick_brings_counts_once(fleet):
    begin(fleet)

    def bring(device: str, outcome: str, version: str = "1.1.0", reason: str | None = None) -> int:
        given = ("clinic", device, "chest", version, outcome, reason, T + 5)
        action = lambda connection: rollouts.record_outcome(connection, fleet.database, *given)  # noqa: E731
        return int(fleet.database.write(action).result())

    assert bring("cart-1", "committed") == 1
    assert bring("cart-1", "committed") == 0
    assert bring("cart-1", "rolled_back") == 0, "it was told before, in another order"
    assert bring("cart-2", "committed", version="1.0.9") == 0
    assert bring("cart-2", "refused", reason="other_site") == 1
    assert bring("cart-77", "committed") == 0
    found = {one.device: (one.state, one.detail) for one in rollouts.views(fleet.database)[0].members}
    assert found["cart-1"] == ("done", None)
    assert found["cart-2"] == ("failed", "refused: other_site")


def test_carts_whose_bundle_is_a_file_are_named_and_left_alone(database):
    fleet = Fleet(database, 2)
    key = ("clinic", "cart-0")
    fleet.hear(T, fleet.carts[key].birth(bundles=(BUNDLE,)), fleet.carts[key].health())
    begin(fleet)
    rollouts.step(database, T + 1)
    assert fleet.take_orders(T + 2) == [("clinic", "cart-1")]
    found = {one.device: one.state for one in rollouts.views(database)[0].members}
    assert found["cart-0"] == "excused"


def test_a_refused_order_is_a_failure_in_the_carts_words(fleet):
    begin(fleet)
    rollouts.step(fleet.database, T + 1)
    (canary,) = fleet.take_orders(T + 2, ok=False, error="there is no slot 'chest'")
    rollouts.step(fleet.database, T + 3)
    assert rollouts.views(fleet.database)[0].state == "running", "what it has under way is not known yet"
    fleet.report(canary, T + 60)
    rollouts.step(fleet.database, T + 61)
    assert "there is no slot 'chest'" in rollouts.views(fleet.database)[0].why
