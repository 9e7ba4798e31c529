"""Who is updated when, what counts as success, and when a rollout halts."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.monitor.rollout import Asked, Cart, Member, Plan, asks, assign, judged, standing

PLAN = Plan(stages=(0.1, 1.0), wait_s=100, failures=0.05, patience_s=1000)


def cart(number: int = 1, **changes: object) -> Cart:
    return replace(Cart("clinic", f"cart-{number}", online=True, version="1.0.0", said_at=50.0), **changes)  # type: ignore[arg-type]


def member(number: int = 1, **changes: object) -> Member:
    return replace(Member("clinic", f"cart-{number}", 0), **changes)  # type: ignore[arg-type]


ACCEPTED = Asked(ordered_at=10, sent_at=11, answered_at=12, ok=True)


@pytest.mark.parametrize("stages", [(), (0.5,), (0.5, 0.5, 1.0), (0.0, 1.0), (0.5, 1.2)])
def test_a_plan_ends_with_all_carts(stages):
    with pytest.raises(ValidationError):
        Plan(stages=stages)


def test_canaries_are_connected_carts_and_not_always_the_same():
    carts = [cart(n, online=n >= 80) for n in range(100)]
    first = assign("a", PLAN, "1.1.0", carts)
    canaries = {key for key, stage in first.items() if stage == 0}
    assert len(canaries) == 10
    assert all(int(device.split("-")[1]) >= 80 for _, device in canaries)
    assert first == assign("a", PLAN, "1.1.0", reversed(carts))
    assert canaries != {key for key, stage in assign("b", PLAN, "1.1.0", carts).items() if stage == 0}
    assert set(assign("a", PLAN, "1.1.0", [cart(1)]).values()) == {0}


def test_a_cart_that_proves_nothing_is_no_canary():
    carts = [cart(1, version="1.1.0"), cart(2, slotted=False), cart(3), cart(4)]
    stages = assign("a", PLAN, "1.1.0", carts)
    assert [stages[one.key] for one in carts[:2]] == [1, 1]
    assert sorted(stages[one.key] for one in carts[2:]) == [0, 1]


@pytest.mark.parametrize(
    ("given_cart", "given_member", "state", "detail"),
    [
        (cart(version="1.1.0"), member(), "done", None),
        (cart(version="1.1.0", settled=False), member(state="ordered", asked=ACCEPTED), "ordered", None),
        (cart(version="1.10.0"), member(), "excused", "has 1.10.0"),
        (cart(retired=True), member(), "excused", "retired"),
        (cart(slotted=False), member(), "excused", "its bundle is a file of its own"),
        (
            cart(result="rolled_back", result_version="1.1.0", reason="disagrees"),
            member(state="ordered", asked=ACCEPTED),
            "failed",
            "rolled_back: disagrees",
        ),
        # of another version, or of a try before the order: says nothing of this one
        (
            cart(result="rolled_back", result_version="1.0.9"),
            member(state="ordered", asked=ACCEPTED),
            "ordered",
            None,
        ),
        (
            cart(result="refused", result_version="1.1.0", said_at=11.0),
            member(state="ordered", asked=ACCEPTED),
            "ordered",
            None,
        ),
        (
            cart(),
            member(state="ordered", asked=replace(ACCEPTED, ok=False, error="no such slot")),
            "failed",
            "no such slot",
        ),
        # refused because the earlier order is being carried out
        (
            cart(settled=False),
            member(state="ordered", asked=replace(ACCEPTED, ok=False, error="is being updated")),
            "ordered",
            None,
        ),
        # the broker had kept the order for hours
        (
            cart(),
            member(state="ordered", asked=Asked(10, 11, 5000, False, "issued_at is too old")),
            "waiting",
            "the order reached it too late",
        ),
        (cart(version="1.1.0"), member(state="failed", detail="slow"), "failed", "slow"),
    ],
)
def test_what_became_of_a_cart(given_cart, given_member, state, detail):
    found, why = judged(given_member, given_cart, "1.1.0")
    assert found == state
    assert why == detail or (detail is not None and str(why).startswith(detail))


def test_a_cart_is_ordered_when_it_is_its_turn_and_it_is_there():
    assert asks(member(), cart(), 0, 0)
    assert not asks(member(stage=1), cart(), 0, 0)
    assert not asks(member(), cart(online=False), 0, 0)
    assert not asks(member(state="done"), cart(), 0, 0)
    waiting = member(state="ordered", asked=Asked(ordered_at=100))
    assert not asks(waiting, cart(), 0, 400)
    assert asks(waiting, cart(), 0, 800), "it did not answer"
    assert not asks(member(state="ordered", asked=ACCEPTED), cart(), 0, 800)


def stands(*members: Member, stage: int = 0, since: float = 0, now: float = 500, **more: object):  # type: ignore[no-untyped-def]
    online = more.get("online", {one.key: True for one in members})
    return standing(PLAN, stage, since, members, online, more.get("drifts", ()), now)  # type: ignore[arg-type]


def test_a_stage_is_watched_after_its_last_success_before_the_next():
    canary, rest = member(1, state="done", since=450), member(2, stage=1)
    assert stands(canary, rest).stage == 0
    assert stands(canary, rest, now=551).stage == 1
    assert stands(replace(canary, state="ordered"), rest, now=551).stage == 0
    assert stands(canary, rest, now=551, since=500).stage == 0, "it was resumed meanwhile"


def test_carts_that_are_away_hold_nobody_up_but_a_stage_needs_one_success():
    away, there, rest = member(1), member(2, state="done", since=0), member(3, stage=1)
    online = {rest.key: True, there.key: True}
    assert stands(away, there, rest, online=online).stage == 1
    assert stands(away, rest, online=online).stage == 0


@pytest.mark.parametrize("bad", [{"state": "failed", "detail": "slow"}, {"state": "ordered", "since": -600}])
def test_one_bad_canary_halts_and_is_named(bad):
    found = stands(member(1, **bad), member(2, state="done"), member(3, stage=1))
    assert found.state == "halted"
    assert "1 of 2 failed; clinic/cart-1" in found.why


def test_few_failures_among_many_do_not_halt():
    done = [member(n, state="done") for n in range(40)]
    assert stands(*done, member(41, state="failed"), member(42)).state == "running"
    assert stands(*done, *(member(n, state="failed") for n in range(41, 44))).state == "halted"


def test_drift_halts_and_what_was_excused_does_not():
    assert stands(member(state="done"), member(2, stage=1), drifts=["clinic: moved"]).state == "halted"
    assert stands(member(state="excused"), member(2, stage=1), since=450).state == "running"


def test_it_is_done_when_every_cart_is():
    assert stands(member(1, state="done"), member(2, state="excused")).state == "done"
    assert stands(member(1, state="done"), member(2), stage=1, online={}).state == "running"


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 60), bad=st.sampled_from([0.0, 0.0, 0.2]))
def test_no_cart_gets_it_before_its_stage_and_all_get_it_if_it_is_good(seed, size, bad):
    """A fleet that comes and goes, with orders that take their time: simulated minute by minute."""
    chance, plan = random.Random(seed), PLAN.model_copy(update={"patience_s": 1e9})
    carts = {c.key: c for c in (cart(n, online=chance.random() < 0.6) for n in range(size))}
    stages = assign(str(seed), plan, "1.1.0", carts.values())
    members = {key: Member(*key, stage) for key, stage in stages.items()}
    stage, since, state, ordered = 0, 0.0, "running", set()
    for minute in range(3000):
        now = 60.0 * minute
        for key, one in carts.items():
            if chance.random() < 0.05:
                carts[key] = replace(one, online=not one.online)
            asked = members[key].asked
            if carts[key].online and asked and asked.answered_at is None:
                answer = replace(asked, sent_at=now, answered_at=now, ok=True)
                members[key] = replace(members[key], asked=answer)
            elif carts[key].online and asked and chance.random() < 0.5:
                failed = int(key[1].split("-")[1]) < bad * size
                result = (
                    {"result": "rolled_back", "result_version": "1.1.0"} if failed else {"version": "1.1.0"}
                )
                carts[key] = replace(carts[key], said_at=now, **result)
        for key, one in members.items():
            found, why = judged(one, carts[key], "1.1.0")
            if found != one.state:
                members[key] = replace(one, state=found, detail=why, since=now)
        online = {key: c.online for key, c in carts.items()}
        found = standing(plan, stage, since, list(members.values()), online, (), now)
        state = found.state
        if state != "running":
            break
        if found.stage != stage:
            stage, since = found.stage, now
        for key, one in members.items():
            if asks(one, carts[key], stage, now):
                assert one.stage <= stage
                ordered.add(key)
                members[key] = replace(one, state="ordered", since=now, asked=Asked(ordered_at=now))
    if bad:
        assert state == "halted" or not any(int(k[1].split("-")[1]) < bad * size for k in ordered)
    else:
        assert state == "done"
        assert {c.version for c in carts.values()} == {"1.1.0"}
