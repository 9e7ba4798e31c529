"""Progress on the error stream: bars for people, a few lines where nobody watches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

__all__ = ["Reporter"]


class Reporter:
    """Tells how far the work is. ``Reporter(Console(quiet=True))`` says nothing."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """One line that stays."""
        self.console.print(text, markup=False)

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar while the block runs; the value is called after each of ``total`` pieces."""
        with self._progress() as progress:
            task = progress.add_task(title, total=total, figures="")
            yield lambda: progress.advance(task)

    @contextlib.contextmanager
    def epochs(self, title: str, total: int) -> Iterator[Callable[[int, str], None]]:
        """A bar over epochs; the value is called with the epoch's number and its figures in words.

        Where nobody watches, each call is a line.
        """
        with self._progress() as progress:
            task = progress.add_task(title, total=total, figures="")

            def after(epoch: int, figures: str) -> None:
                progress.update(task, completed=epoch, figures=figures)
                if not self.console.is_terminal:
                    self.say(f"{title} {epoch}/{total}: {figures}")

            yield after

    def _progress(self) -> Any:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
