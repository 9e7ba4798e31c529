from __future__ import annotations

import pytest

from edge.cli import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cart-07", "ping"], "give SITE/CART"),
        (["clinic/../x", "ping"], "give SITE/CART"),
        (["clinic/+", "ping"], "give SITE/CART"),
        (["clinic/cart-07", "configure", "health_s"], "health_s: give KEY=VALUE"),
        (["clinic/cart-07", "configure", "health_s=[1]"], "a value is one number, text, true, false or null"),
        (["clinic/cart-07", "ping", "--broker", "http://x"], "--broker"),
        (["clinic/cart-07", "ping", "--broker", "mqtts://x"], "--ca go together"),
    ],
)
def test_what_cannot_be_sent_is_said_in_one_line(capsys, arguments, words):
    with pytest.raises(SystemExit) as exit_:
        main(["agent", "command", *arguments])
    said = capsys.readouterr().err
    assert exit_.value.code == 2 and words in said and said.count("\n") == 1


def test_a_broker_that_is_not_there_is_exit_1(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["agent", "command", "clinic/cart-07", "ping", "--broker", "mqtt://127.0.0.1:9"])
    assert exit_.value.code == 1 and "cannot be reached" in capsys.readouterr().err
