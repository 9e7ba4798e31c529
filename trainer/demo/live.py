"""The demo's table: each image that was dropped, what came back for it, and whether that is right."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from rich.console import Console, JustifyMethod
from rich.live import Live
from rich.table import Table

from edge.errors import ScanwrightError
from edge.mqtt.payloads import Finding
from trainer.demo.cart import Arrival, Cart
from trainer.demo.frames import Case

__all__ = ["Row", "Tally", "run_cases"]

_PACE_S = 0.15  # between two drops, so that the table can be followed
_COLUMNS: tuple[tuple[str, JustifyMethod], ...] = (
    ("case", "left"),
    ("image", "left"),
    ("truth", "left"),
    ("finding, over MQTT", "left"),
    ("p", "right"),
    ("ms", "right"),
    ("", "left"),
)
_SILENCE_S = 20.0  # without any finding: something is wrong


@dataclass
class Row:
    """A case with the findings that have come back; one for each of its frames."""

    case: Case
    expected: set[str]
    dropped: float = 0.0
    arrivals: list[Arrival] = field(default_factory=list)

    @property
    def findings(self) -> list[Finding]:
        return [arrival.finding for arrival in self.arrivals]

    @property
    def answered(self) -> list[Finding]:
        """The findings that are a result."""
        return [finding for finding in self.findings if finding.decision != "no_result"]

    @property
    def right(self) -> bool | None:
        """Whether what was said is right; None before anything is, and for a phantom without a result."""
        if len(self.arrivals) < len(self.expected):
            return None
        if self.case.truth is None:
            return not self.answered
        if not self.answered:
            return None
        finding = self.answered[0]
        if self.case.truth == self.case.negative_label:
            return finding.decision == "negative"
        return finding.decision == "positive" and finding.label == self.case.truth


@dataclass(frozen=True)
class Tally:
    """What came of it. ``answered`` and ``right`` count phantoms; ``clip`` is the row of the foreign clip."""

    phantoms: int
    answered: int
    right: int
    clip: Row
    seconds: float

    @property
    def convincing(self) -> bool:
        """Findings right nearly always, given nearly always, and no word on the foreign clip."""
        return (
            self.answered >= 0.75 * self.phantoms
            and self.right >= 0.9 * self.answered
            and not self.clip.answered
        )


def run_cases(cart: Cart, cases: Sequence[Case], console: Console) -> Tally:
    """Drop the cases into the cart's folder, one after the other, and show what comes back.

    Raises:
        ScanwrightError: the agent ended, or went silent before every frame had its finding.
    """
    rows = [Row(case, {cart.finding_id(identity) for identity in case.identities}) for case in cases]
    of = {id_: row for row in rows for id_ in row.expected}
    waiting = set(of)
    last = time.monotonic()
    dropped = 0
    with Live(console=console, refresh_per_second=8, transient=True, screen=False) as live:
        while waiting:
            now = time.monotonic()
            if dropped < len(rows) and (dropped == 0 or now - rows[dropped - 1].dropped >= _PACE_S):
                rows[dropped].dropped = last = now
                _drop(rows[dropped].case, cart)
                dropped += 1
            try:
                arrival = cart.arrivals.get(timeout=0.05)
            except queue.Empty:
                cart.check()
                if now - last > _SILENCE_S:
                    raise ScanwrightError(
                        f"{len(waiting)} findings did not come back within {_SILENCE_S:.0f} s; see {cart.log}"
                    ) from None
                continue
            last = arrival.at
            if arrival.finding.id in waiting:
                waiting.remove(arrival.finding.id)
                of[arrival.finding.id].arrivals.append(arrival)
                live.update(_table(rows[max(0, dropped - max(4, console.height - 6)) : dropped]))
    console.print(_table(rows))
    return _tally(rows)


def _drop(case: Case, cart: Cart) -> None:
    # Moved in whole, as careful copying programs do.
    case.path.rename(cart.drop / case.path.name)


def _tally(rows: Sequence[Row]) -> Tally:
    phantoms = [row for row in rows if row.case.truth is not None]
    (clip,) = (row for row in rows if row.case.truth is None)
    return Tally(
        phantoms=len(phantoms),
        answered=sum(bool(row.answered) for row in phantoms),
        right=sum(row.right is True for row in phantoms),
        clip=clip,
        seconds=median(row.arrivals[0].at - row.dropped for row in phantoms),
    )


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for head, justify in _COLUMNS:
        table.add_column(head, justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> list[str]:
    truth = row.case.truth or "no chest"
    if not row.arrivals:
        return ["", row.case.what, truth, "[dim]…[/]", "", "", ""]
    mark = {True: "[green]✓[/]", False: "[bold red]✗[/]", None: "[yellow]–[/]"}[row.right]
    first = row.findings[0]
    cost = "" if not first.elapsed_ms else f"{first.elapsed_ms.get('total', 0):.0f}"
    shown = (row.answered or row.findings)[0]
    if shown.decision == "no_result":
        said, probability = f"[yellow]no result: {', '.join(shown.reasons)}[/]", ""
    else:
        said, probability = f"{shown.decision} [bold]{shown.label}[/]", _percent(shown.probability or 0)
    if len(row.expected) > 1:
        said = f"{len(row.arrivals)}/{len(row.expected)} {said}"
    return [shown.case_code, row.case.what, truth, said, probability, cost, mark]


def _percent(probability: float) -> str:
    return ">99%" if probability > 0.99 else f"{probability:.0%}"
