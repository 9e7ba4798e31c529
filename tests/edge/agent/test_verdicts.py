"""What reviewers say reaches the cart's screen, beside the finding it is about."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from screen_store import Filled

from edge.agent.page import View, parse, render
from edge.agent.verdicts import Verdict, Verdicts
from edge.errors import BadInputError
from edge.web.catalogue import load_texts

AT = datetime(2026, 11, 1, tzinfo=timezone.utc).isoformat()


@pytest.fixture
def filled(tmp_path):
    filled = Filled(tmp_path)
    yield filled
    filled.database.close()


def take(filled, of, **changes):
    arguments = {"finding": of.id, "labels": "effusion", "agrees": True, "reviewed_at": AT} | changes
    return Verdicts(filled.database).handlers()["verdict"](arguments)


def test_a_verdict_stands_beside_its_finding_and_the_newest_counts(filled):
    finding = filled.put("positive", "effusion")
    before = filled.store.sequence()
    assert take(filled, finding) == {}
    assert filled.store.get(finding.id).verdict == Verdict("effusion", True)
    assert filled.store.sequence() > before
    take(filled, finding, labels="", agrees=False)
    assert filled.store.get(finding.id).verdict == Verdict("", False)
    assert filled.store.latest(5)[0].verdict == Verdict("", False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"finding": "f" * 32}, "no such finding"),
        ({"finding": None}, "no such finding"),
        ({"labels": 7}, "labels"),
        ({"labels": "x" * 1001}, "labels"),
        ({"agrees": "yes"}, "agrees"),
        ({"reviewed_at": "yesterday"}, "reviewed_at"),
    ],
)
def test_what_is_no_verdict_is_refused(filled, changes, words):
    finding = filled.put("positive", "effusion")
    with pytest.raises(BadInputError, match=words):
        take(filled, finding, **changes)
    assert filled.store.get(finding.id).verdict is None


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict("effusion", True), "A reviewer confirms: effusion."),
        (Verdict("", False), "A reviewer corrects: Nothing suspected."),
        (Verdict("effusion", None), "A reviewer says: effusion."),
        (Verdict(None, None), "A reviewer cannot tell."),
        (Verdict("<script>", False), "&lt;script&gt;"),
    ],
)
def test_the_screen_says_it_in_words(filled, verdict, words):
    finding = filled.put("positive", "effusion")
    (stored,) = filled.store.latest(1)
    view = View(
        "clinic", "cart-7", "en", [parse(stored)], finding, True, True, True, 0, False, verdict=verdict
    )
    assert words in render(view, load_texts("en"))
