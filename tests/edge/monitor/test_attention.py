"""Which cart needs a visit: each reason at its limit, and the order in which carts are shown."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.monitor.attention import Level, newest_versions, reasons, urgency
from edge.web.catalogue import load_texts

NOW = 1_800_000_000.0
DAY = 86400.0
WELL: dict[str, Any] = {
    "site": "clinic",
    "device": "cart-1",
    "retired_at": None,
    "twice_at": None,
    "online": True,
    "online_since": NOW - DAY,
    "last_heard": NOW - 20,
    "health_at": NOW - 20,
    "backlog": 0.0,
    "backlog_oldest_s": None,
    "set_aside": 0.0,
    "certificate_days": 300.0,
    "refusing": False,
    "disk_days": None,
    "disk_free_mb": 20_000.0,
    "storage_wear_percent": None,
    "temperature_celsius": 50.0,
    "throttled": False,
    "clock_trusted": True,
    "clock_off_s": 0.3,
    "last_finding": NOW - 3600,
    "last_good": NOW - 3600,
    "unsigned": False,
    "bundles": "chest 1.2.0",
}
NEWEST = {"chest": (1, 2, 0)}


def found(**changes: Any) -> list[tuple[Level, str]]:
    row = SimpleNamespace(**WELL | changes)
    return [(reason.level, reason.code) for reason in reasons(row, NOW, NEWEST)]


def test_a_cart_that_is_well_has_no_reason():
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "level", "code"),
    [
        ({"twice_at": NOW - 3600}, Level.VISIT, "twice"),
        ({"online": False, "last_heard": NOW - 3600}, Level.NOTE, "offline"),
        ({"online": False, "last_heard": NOW - 2 * DAY}, Level.LOOK, "offline"),
        ({"online": False, "last_heard": NOW - 15 * DAY}, Level.VISIT, "offline"),
        ({"online": False, "last_heard": 0.0}, Level.LOOK, "never"),
        ({"health_at": NOW - 1000}, Level.LOOK, "stale"),
        ({"health_at": None}, Level.LOOK, "silent"),
        ({"backlog_oldest_s": 3 * 3600.0}, Level.LOOK, "backlog"),
        ({"set_aside": 2.0}, Level.NOTE, "set_aside"),
        ({"certificate_days": 59.0}, Level.NOTE, "certificate"),
        ({"certificate_days": 13.0}, Level.VISIT, "certificate"),
        ({"certificate_days": -1.0}, Level.VISIT, "certificate_ended"),
        ({"refusing": True, "disk_days": 0.0}, Level.VISIT, "refusing"),
        ({"disk_days": 29.0}, Level.NOTE, "disk_days"),
        ({"disk_days": 6.0}, Level.VISIT, "disk_days"),
        ({"disk_free_mb": 900.0}, Level.LOOK, "disk_free"),
        ({"storage_wear_percent": 80.0}, Level.LOOK, "wear"),
        ({"temperature_celsius": 72.0}, Level.NOTE, "hot"),
        ({"temperature_celsius": 80.0, "throttled": True}, Level.VISIT, "hot"),
        ({"throttled": True}, Level.LOOK, "throttled"),
        ({"clock_trusted": False, "clock_off_s": 1e9}, Level.NOTE, "clock_untrusted"),
        ({"clock_off_s": -400.0}, Level.LOOK, "clock_wrong"),
        ({"last_good": NOW - 8 * DAY}, Level.LOOK, "last_good"),
        ({"last_good": None}, Level.LOOK, "no_good_case"),
        ({"unsigned": True}, Level.LOOK, "unsigned"),
        ({"bundles": "chest 1.1.9"}, Level.NOTE, "old_model"),
    ],
)
def test_each_reason_is_found_at_its_level_and_has_words(changes, level, code):
    assert found(**changes) == [(level, code)]
    assert f"fleet.why.{code}" in load_texts("en", "fleet")


def test_a_certificate_runs_on_while_its_cart_is_away():
    away = {"online": False, "last_heard": NOW - 10 * DAY, "health_at": NOW - 10 * DAY}
    assert (Level.VISIT, "certificate") in found(**away, certificate_days=20.0)


def test_a_retired_cart_needs_nothing():
    assert found(retired_at=NOW, online=False, last_heard=0.0) == []


def test_a_cart_that_never_had_an_image_is_not_blamed_for_it():
    assert found(last_finding=None, last_good=None) == []


def test_carts_that_need_a_visit_come_first():
    rows = [{}, {"disk_days": 3.0}, {"backlog_oldest_s": 9e4}, {"refusing": True}, {"set_aside": 1.0}]
    ordered = sorted(rows, key=lambda c: urgency(reasons(SimpleNamespace(**WELL | c), NOW, NEWEST)))
    assert ordered == [
        {"refusing": True},
        {"disk_days": 3.0},
        {"backlog_oldest_s": 9e4},
        {"set_aside": 1.0},
        {},
    ]


def test_the_newest_version_is_by_number():
    assert newest_versions(["chest 1.9.0, heart 2.0.0", "chest 1.10.0", None]) == {
        "chest": (1, 10, 0),
        "heart": (2, 0, 0),
    }


@given(
    st.fixed_dictionaries(
        {
            name: st.none() | st.floats(-1e12, 1e12)
            for name in (
                "health_at",
                "backlog_oldest_s",
                "certificate_days",
                "disk_days",
                "clock_off_s",
                "last_good",
            )
        }
    )
)
def test_no_figure_breaks_the_rules(figures):
    urgency(reasons(SimpleNamespace(**WELL | figures), NOW, NEWEST))
