"""The verdicts that a reviewer may give on a finding, and what each stands for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element

from edge.monitor.access import Visit
from edge.monitor.pages.layout import form
from edge.web.html import tag

__all__ = ["UnknownVerdictError", "buttons", "negative", "truth"]

_KEYS = 9  # labels that have a key


class UnknownVerdictError(ValueError):
    """No verdict that may be given on this finding."""


def truth(row: Any, verdict: str) -> list[str] | None:
    """What is truly there by a verdict: labels, none for nothing, None where the reviewer cannot tell.

    Raises:
        UnknownVerdictError: it is none of :func:`buttons`.
    """
    if verdict == "confirm" and row.decision != "no_result":
        return [row.label] if row.decision == "positive" and row.label else []
    if verdict == "nothing":
        return []
    if verdict == "unclear":
        return None
    if verdict.startswith("label:") and verdict[6:] in _labels(row):
        return [verdict[6:]]
    raise UnknownVerdictError(verdict)


def negative(row: Any) -> str:
    """The model's label of nothing: the one without a threshold; empty where it has none."""
    said = json.loads(row.payload)
    known = said.get("thresholds", {})
    return next((name for name in said.get("probabilities", {}) if name not in known), "")


def buttons(visit: Visit, row: Any, **hidden: str) -> Element:
    """A form with a button, and a key, for each verdict; ``hidden`` goes with it."""

    def button(verdict: str, text: str, key: str) -> Element:
        shortcut = tag("kbd", key.upper())
        return tag("button", tag("bdi", text), shortcut, name="verdict", value=verdict, data_key=key)

    made = []
    if row.decision != "no_result":
        made.append(button("confirm", visit.t("review.confirm"), "c"))
    others = [label for label in _labels(row) if row.decision != "positive" or label != row.label]
    made += [button(f"label:{label}", label, str(n)) for n, label in enumerate(others[:_KEYS], 1)]
    if row.decision != "negative":
        made.append(button("nothing", visit.texts["decision.negative"], "n"))
    made.append(button("unclear", visit.t("review.unclear"), "u"))
    sent = {"site": row.site, "device": row.device, "id": row.id, **hidden}
    fields = [tag("input", type="hidden", name=name, value=value) for name, value in sent.items()]
    return form(visit, "/review", fields, made, class_="verdicts")


def _labels(row: Any) -> Sequence[str]:
    """What may truly be there: the labels that the model tells apart, but for the one of nothing."""
    named = set(json.loads(row.payload).get("thresholds", {}))
    return sorted(named | ({row.label} if row.decision == "positive" and row.label else set()))
