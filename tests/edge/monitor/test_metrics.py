"""The fleet's figures: what lasts of every cart, what is of the moment only of those that are there."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import select

from edge.errors import BadInputError
from edge.monitor.metrics import fleet
from edge.monitor.pages.metrics import metrics_of
from edge.monitor.simulated import Simulated

T = 1_800_000_000.0


@pytest.fixture
def said(database, put):
    """``said(now)``: the figures by name and cart, of what ``put`` has kept."""

    def said(now: float = T) -> dict[str, str]:
        text = fleet(database.read(select(database.tables["device"])), 7, now)
        return dict(re.findall(r"^(scanwright_\w+(?:\{.*\})?) (\S+)$", text, re.M))

    return said


def of(name: str, device: str) -> str:
    return f'scanwright_{name}{{site="clinic",device="{device}"}}'


def test_a_cart_that_is_away_keeps_what_lasts_and_its_certificate_runs_on(put, said):
    for device in ("here", "away"):
        cart = Simulated("clinic", device)
        put(cart.online(), cart.birth(), cart.health(certificate_days=10.0, temperature_celsius=60.0))
    put(Simulated("clinic", "away").online(False))
    found = said(T + 86400)
    assert found[of("online", "here")] == "1.0" and found[of("online", "away")] == "0.0"
    assert found[of("temperature_celsius", "here")] == "60.0"
    assert of("temperature_celsius", "away") not in found
    assert found[of("certificate_seconds", "away")] == str(9 * 86400.0)
    assert of("outbox_oldest_seconds", "here") not in found, "it is not known"
    assert found["scanwright_monitor_findings_total"] == "7.0"


def test_a_retired_cart_is_left_out(put, said):
    cart = Simulated("clinic", "cart-1")
    put(cart.online(), cart.birth())
    assert of("online", "cart-1") in said()
    put(cart.event("retired"))
    assert of("online", "cart-1") not in said()


def test_what_a_cart_says_of_itself_cannot_break_the_format(put, said):
    cart = Simulated("clinic", "cart-1")
    put(cart.birth(agent_version='1"} 7\nscanwright_online 1 \\'))
    assert "scanwright_online" not in said()
    (line,) = (name for name in said() if name.startswith("scanwright_agent_info"))
    assert line.endswith(r'version="1\"} 7\nscanwright_online 1 \\"}')


@pytest.mark.parametrize("text", ["short", ""])
def test_a_token_that_could_be_guessed_is_refused(tmp_path, text):
    with pytest.raises(BadInputError, match="cannot be read"):
        metrics_of(tmp_path / "missing")
    (tmp_path / "token").write_text(text)
    with pytest.raises(BadInputError, match="at least 16"):
        metrics_of(tmp_path / "token")
