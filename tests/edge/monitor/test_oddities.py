from __future__ import annotations

from datetime import datetime, timedelta, timezone

from fleet import Simulated

from edge.monitor.hearing import RefusedError
from edge.monitor.oddities import Oddities

NOW = datetime(2027, 1, 15, 8, tzinfo=timezone.utc)


def birth(boot: str):
    cart = Simulated("clinic", "cart-1", boot)
    return cart.heard(cart.birth())


def test_two_carts_of_one_name_are_told_and_restarts_are_not():
    odd = Oddities()
    for boot in ("a", "a", "b", "b", "c"):
        assert not list(odd.of(birth(boot)))
    (event,) = odd.of(birth("b"))
    assert (event.code, event.site, event.device) == ("identity_twice", "clinic", "cart-1")
    assert odd.twice == {("clinic", "cart-1")}


def test_a_trusted_clock_that_is_years_off_is_told_and_an_untrusted_one_is_not():
    cart, odd = Simulated("clinic", "cart-1"), Oddities()
    off = NOW + timedelta(days=3 * 366)
    (event,) = odd.of(cart.heard(cart.health(off), NOW.timestamp()))
    assert event.code == "clock_wrong" and "3 years ahead" in event.message
    assert not list(odd.of(cart.heard(cart.health(NOW - timedelta(seconds=20)), NOW.timestamp())))
    untrusted = Simulated("clinic", "cart-2")
    stamp = untrusted.stamp(off, trusted=False)
    assert not list(odd.of(untrusted.heard(untrusted.health(stamp=stamp), NOW.timestamp())))


def test_a_flood_is_told_once_an_hour_with_how_many_there_were():
    time = [0.0]
    odd = Oddities(lambda: time[0])
    error = RefusedError("message_refused", "it is no Finding", "clinic", "cart-1")
    assert len([event for _ in range(500) for event in odd.of_refusal(error)]) == 1
    time[0] = 3601.0
    (event,) = odd.of_refusal(error)
    assert "499 more" in event.message
    assert list(odd.of_refusal(RefusedError("message_refused", "it is no Finding", "clinic", "cart-2")))
