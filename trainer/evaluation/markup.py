"""Pieces of HTML that the report is made of; all text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["row", "section", "table"]


def section(title: str, body: str) -> str:
    """A section of the report; ``body`` is HTML."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def table(heads: Sequence[str], rows: Iterable[str]) -> str:
    """A table of :func:`row`; it scrolls where the page is too narrow."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def row(cells: Sequence[str], chosen: bool = False) -> str:
    """A row of a table; a ``chosen`` one stands out."""
    mark = ' class="chosen"' if chosen else ""
    return f"<tr{mark}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
