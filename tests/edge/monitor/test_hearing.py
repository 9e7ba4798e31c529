"""What a stranger may send: taken as what it is, or refused with a reason that names the cart."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from fleet import Simulated, png
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.monitor.hearing import RefusedError, finding_time, hear
from edge.mqtt.payloads import Stamp

CART = Simulated("clinic", "cart-1")
TOPIC, FINDING = CART.finding()
BASE = json.loads(FINDING)
NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    "said", [CART.online(), CART.birth(), CART.health(), CART.finding(), CART.event("clock_stepped")]
)
def test_what_a_cart_says_is_taken(said):
    heard = hear(*said, NOW)
    assert (heard.site, heard.device, heard.received, heard.live) == ("clinic", "cart-1", NOW, True)


def test_what_the_broker_kept_and_a_last_will_are_not_the_carts_own_words():
    assert not hear(*CART.birth(), NOW, retained=True).live
    assert not hear(*CART.online(False), NOW).live
    assert hear(CART.topics.birth, b"", NOW).body is False


@pytest.mark.parametrize(
    ("topic", "payload", "code", "named"),
    [
        (TOPIC.replace("cart-1", "cart-2"), FINDING, "message_forged", True),
        (TOPIC.replace("clinic", "other"), FINDING, "message_forged", True),
        (CART.topics.birth.replace("cart-1", "cart-2"), CART.birth()[1], "message_forged", True),
        (TOPIC, b"", "message_refused", True),
        (TOPIC, b"[" * 100_000, "message_refused", True),
        (TOPIC, b'"\xff\xfe"', "message_refused", True),
        (TOPIC, json.dumps(BASE | {"id": "x"}).encode(), "message_refused", True),
        (TOPIC, json.dumps(BASE | {"patient": "x"}).encode(), "message_refused", True),
        (TOPIC, json.dumps(BASE | {"label": "x\u0000"}).encode(), "message_refused", True),
        (CART.topics.availability, b"perhaps", "message_refused", True),
        (CART.topics.up("nothing"), b"{}", "message_refused", True),
        (CART.topics.overlay("0" * 32), b"<svg onload=alert(1)>", "message_refused", True),
        (CART.topics.overlay("../../etc"), png(), "message_refused", True),
        ("scanwright/<script>/x/up/finding", FINDING, "message_refused", False),
        ("scanwright", b"", "message_refused", False),
    ],
)
def test_what_is_no_message_of_its_topic_is_refused_by_name(topic, payload, code, named):
    with pytest.raises(RefusedError) as caught:
        hear(topic, payload, NOW)
    assert caught.value.code == code
    assert bool(caught.value.site) == bool(caught.value.device) == named
    assert len(str(caught.value)) < 300


def test_an_overlay_too_large_to_draw_is_refused():
    png_head = png()[:16] + (100_000).to_bytes(4, "big") * 2 + png()[24:]
    with pytest.raises(RefusedError, match="larger"):
        hear(CART.topics.overlay("0" * 32), png_head, NOW)


def stamp(at: float, trusted: bool = True, corrected: float | None = None) -> Stamp:
    when = datetime.fromtimestamp(at, timezone.utc)
    fixed = None if corrected is None else datetime.fromtimestamp(corrected, timezone.utc)
    return Stamp(at=when, clock_trusted=trusted, monotonic_s=1, boot_id="b", corrected_at=fixed)


def test_a_finding_that_comes_weeks_late_lands_at_its_own_time():
    late = NOW - timedelta(weeks=5).total_seconds()
    assert finding_time(stamp(late), NOW) == (late, True)
    assert finding_time(stamp(0.0, trusted=False, corrected=late), NOW) == (late, True)


@pytest.mark.parametrize(
    "one", [stamp(NOW - 50, trusted=False), stamp(NOW + 1e9), stamp(1.0), stamp(0, False, NOW + 1e7)]
)
def test_a_time_that_cannot_be_is_not_believed(one):
    assert finding_time(one, NOW) == (NOW, False)


@settings(deadline=None, max_examples=200)
@given(
    st.text(max_size=40) | st.sampled_from([TOPIC, CART.topics.birth, CART.topics.health, CART.topics.event]),
    st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from(sorted(BASE)) | st.text(max_size=5),
        st.none() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.integers(), max_size=3),
    ).map(lambda changes: json.dumps(BASE | changes).encode()),
)
def test_no_message_breaks_it(topic, payload):
    try:
        hear(topic, payload, NOW)
    except RefusedError as error:
        assert error.code in ("message_refused", "message_forged")


def test_a_reason_for_refusing_cannot_forge_a_line_of_the_log():
    said = json.dumps(BASE | {"x\n2026-01-01 INFO all is well\x1b[2J\u202e": 1}).encode()
    with pytest.raises(RefusedError) as refused:
        hear(TOPIC, said, NOW)
    assert "all is well" in str(refused.value) and str(refused.value).isprintable()
