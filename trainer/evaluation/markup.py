"""Pieces of the report's HTML, and how figures are written in it. All text that is given is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from edge.bundle.manifest import Interval, VariantMetrics

__all__ = [
    "LEARNING_NOTE",
    "NONE",
    "VARIANT_TITLES",
    "between",
    "held_out_note",
    "kb",
    "listed",
    "mean_of",
    "number",
    "percent",
    "row",
    "section",
    "table",
    "tiles",
    "value_of",
    "with_interval",
]

NONE = "–"
VARIANT_TITLES = {"float": "float32, as trained", "pruned": "pruned, float32", "int8": "int8, what ships"}
LEARNING_NOTE = (
    '<p class="soft">Tuning images are kept apart from the training images: they choose the epoch, the '
    "temperature, the thresholds and the limits. Training figures are of augmented images, hence often the "
    "worse ones; while pruning, the float network's answers stand in for the labels.</p>"
)


def section(title: str, body: str) -> str:
    """A section of the report; ``body`` is HTML."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def table(heads: Sequence[str], rows: Iterable[str]) -> str:
    """A table of HTML rows."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def row(cells: Sequence[str], chosen: bool = False) -> str:
    """A row of a table."""
    mark = ' class="chosen"' if chosen else ""
    return f"<tr{mark}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def listed(items: Sequence[str]) -> str:
    """A list."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def value_of(interval: Interval | None) -> float | None:
    """The estimate alone."""
    return None if interval is None else interval.value


def mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of those that are defined."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def number(value: float | None) -> str:
    """Three digits."""
    return NONE if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """Per cent, one digit."""
    return NONE if value is None else f"{value:.1%}"


def between(interval: Interval | None, times: int = 1, unit: str = "") -> str:
    """The interval in brackets."""
    if interval is None:
        return NONE
    digits = 3 if times == 1 else 1
    return f"[{interval.low * times:.{digits}f} to {interval.high * times:.{digits}f}{unit}]"


def with_interval(interval: Interval | None) -> str:
    """The estimate with its interval."""
    return NONE if interval is None else f"{interval.value:.3f} {between(interval)}"


def kb(size: int) -> str:
    """A size in kB."""
    return f"{size / 1000:.0f} kB"


def tiles(figures: Iterable[tuple[str, str, str]]) -> str:
    """Figures in large type: title, value and a line below."""
    cells = "".join(
        f'<div class="tile">{title}<b>{escape(value)}</b><span>{escape(below)}</span></div>'
        for title, value, below in figures
    )
    return f'<div class="tiles">{cells}</div>'


def held_out_note(metrics: VariantMetrics) -> str:
    """What the results rest on."""
    return (
        f'<p class="soft">All results here: {metrics.n} held-out images (“{escape(metrics.split)}”) that no '
        "weight, threshold or limit was fitted on, each run through the interpreter that the device runs. In "
        "brackets: 95 % bootstrap intervals.</p>"
    )
