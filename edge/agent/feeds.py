"""What feeds the agent: a thread for each source, and the short queue between them and the model.

They outlive a reload: while the agent is made anew, sources wait with what they have in hand, and receivers
that are processes of their own go on receiving. A source whose configuration changed is stopped, and the new
one reads again whatever was not marked as seen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, Full, Queue

from edge.agent.config import AgentConfig
from edge.agent.inputs import open_source
from edge.imaging.frame import Frame
from edge.sources.base import Item, Notice, Source

__all__ = ["Feeds"]

_AHEAD = 2  # frames that wait for the model
_LOOK_S = 0.2  # how soon a stop is noticed
_STALE_S = 5.0  # so old a live frame says nothing of now
_END_S = 1.0  # for a source to end; what it had in hand is read again


@dataclass
class _Feed:
    key: object  # what it was made of
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread = field(init=False)
    trouble: str | None = None  # the notice that it is lost, until the one that it is back


class Feeds:
    """Sources at work; what they give is taken in order, by one thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._items: Queue[tuple[Item, float]] = Queue(_AHEAD)
        self._in_hand: Item | None = None
        self._running: dict[str, _Feed] = {}
        self._stopped = threading.Event()
        self._there = threading.Condition()
        self._seen_by: Callable[[str], bool] | None = None

    def next(self, timeout_s: float) -> Item | None:
        """What comes next, the same until it is :meth:`taken`; None when nothing comes in time, or only a
        live frame that has waited since before the agent stopped taking any."""
        if self._in_hand is None:
            with suppress(Empty):
                item, since = self._items.get(timeout=timeout_s)
                self._items.task_done()
                stale = isinstance(item, Frame) and item.live and self._monotonic() - since > _STALE_S
                self._in_hand = None if stale else item
        return self._in_hand

    def taken(self) -> None:
        """What :meth:`next` gave is done with."""
        self._in_hand = None

    def troubles(self) -> dict[str, str | None]:
        """By name of each source: why nothing comes from it, or None."""
        return {name: feed.trouble for name, feed in list(self._running.items())}

    def attach(self, seen: Callable[[str], bool]) -> None:
        """``seen`` says from now on whether a key is committed."""
        with self._there:
            self._seen_by = seen
            self._there.notify_all()

    def detach(self) -> None:
        """Have whoever asks wait for the next agent; no question is under way when this returns."""
        with self._there:
            self._seen_by = None

    def follow(self, config: AgentConfig) -> None:
        """Run the configured sources: start what is new, stop what is gone, leave the others at work."""
        keys = {source.name: (source, config.state, config.study_silence_s) for source in config.sources}
        self._end([name for name, feed in self._running.items() if keys.get(name) != feed.key])
        for source in config.sources:
            if source.name not in self._running:
                self._begin(open_source(source, config, self._seen), keys[source.name])

    def run(self, sources: Iterable[Source]) -> None:
        """Run sources that are there already."""
        for source in sources:
            self._begin(source, None)

    def stop(self) -> None:
        """End all of them."""
        self._stopped.set()
        self._end(list(self._running))

    def _begin(self, source: Source, key: object) -> None:
        feed = _Feed(key)
        feed.thread = threading.Thread(
            target=self._feed, args=(source, feed), name=f"source-{source.name}", daemon=True
        )
        self._running[source.name] = feed
        feed.thread.start()

    def _end(self, names: Iterable[str]) -> None:
        ending = [self._running.pop(name) for name in names]
        for feed in ending:
            feed.stop.set()
        for feed in ending:
            feed.thread.join(_END_S)

    def _feed(self, source: Source, feed: _Feed) -> None:
        stop = feed.stop
        for item in source.frames(stop):
            if isinstance(item, Notice) and item.code.endswith(("_lost", "_back")):
                feed.trouble = item.message if item.code.endswith("_lost") else None
            waiting, since = True, self._monotonic()
            while waiting and not stop.is_set():
                with suppress(Full):
                    self._items.put((item, since), timeout=_LOOK_S)
                    waiting = False
            if isinstance(item, Frame) and item.live:  # one that waits grows old: take no other meanwhile
                with self._items.all_tasks_done:
                    while self._items.unfinished_tasks and not stop.is_set():
                        self._items.all_tasks_done.wait(_LOOK_S)

    def _seen(self, key: str) -> bool:
        with self._there:
            while self._seen_by is None:
                if self._stopped.is_set():
                    return False
                self._there.wait(_LOOK_S)
            return self._seen_by(key)
