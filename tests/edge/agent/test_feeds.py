"""The queue between sources and model: what waits in it, what has grown too old, which source is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edge.agent.feeds import Feeds
from edge.imaging.frame import Frame
from edge.sources.base import Item, Notice


class Given:
    """A source of what it is given."""

    name = "probe"

    def __init__(self, *items: Item) -> None:
        self._items = items

    def frames(self, stop: threading.Event) -> Iterator[Item]:
        yield from self._items


class Fed:
    """Feeds with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.feeds = Feeds(lambda: self.now)

    def give(self, *items: Item) -> None:
        self.feeds.run([Given(*items)])
        deadline = time.monotonic() + 10
        while self.feeds._items.empty():  # at least one waits
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def next(self) -> Item | None:
        item = self.feeds.next(1.0)
        self.feeds.taken()
        return item


@pytest.fixture
def fed() -> Iterator[Fed]:
    made = Fed()
    yield made
    made.feeds.stop()


def frame(name: str, live: bool) -> Frame:
    return Frame(np.zeros((4, 4), np.uint8), name, "study", "probe", live=live)


def test_a_live_frame_that_waited_for_room_on_the_disk_is_not_taken_for_one_of_now(fed: Fed) -> None:
    fed.give(frame("old", live=True), frame("new", live=True))
    fed.now = 60.0
    assert fed.next() is None
    item = fed.next()
    assert isinstance(item, Frame) and item.identity == "new"


def test_what_comes_from_a_file_waits_for_as_long_as_it_takes(fed: Fed) -> None:
    fed.give(frame("kept", live=False))
    fed.now = 86400.0
    item = fed.next()
    assert isinstance(item, Frame) and item.identity == "kept"


def test_a_source_is_in_trouble_from_the_notice_that_it_is_lost_to_the_one_that_it_is_back(fed: Fed) -> None:
    assert fed.feeds.troubles() == {}
    fed.give(
        Notice("warning", "source_lost", "no frames arrive"),
        Notice("warning", "dicom_caller_refused", "nothing to do with it"),
        Notice("info", "source_ended", "nor this"),
        frame("any", live=False),
        Notice("info", "source_back", "frames arrive again"),
    )
    fed.next()
    assert fed.feeds.troubles() == {"probe": "no frames arrive"}
    for _ in range(3):
        fed.next()
    deadline = time.monotonic() + 10
    while fed.feeds.troubles() != {"probe": None}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
