"""The style sheet: texts can be read on their ground, in the dark and in the light (WCAG 2.1, 1.4.3 AA)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import edge.web

CSS = (Path(edge.web.__file__).parent / "static" / "style.css").read_text(encoding="utf-8")
DARK, LIGHT = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in CSS.split(":root {")[1:])
PAIRS = [(text, ground) for text in ("text", "quiet") for ground in ("ground", "panel")]
PAIRS += [(decision, "panel") for decision in ("positive", "negative", "no-result")]
PAIRS += [("warning-text", "warning-ground")]


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1)."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [DARK, {**DARK, **LIGHT}], ids=["dark", "light"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_contrast_is_at_least_4_5(scheme: dict[str, str], text: str, ground: str) -> None:
    one, other = sorted((luminance(scheme[text]), luminance(scheme[ground])), reverse=True)
    assert (one + 0.05) / (other + 0.05) >= 4.5


def test_it_asks_nothing_of_another_place() -> None:
    assert "url(" not in CSS
    assert "@import" not in CSS
