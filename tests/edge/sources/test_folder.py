from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.imaging.frame import Frame
from edge.sources.base import Done, Failure, Item, Notice, Original
from edge.sources.folder import Folder


class Watch:
    """Runs a folder source in a thread and remembers what it yields, and what is done, as the agent would."""

    def __init__(self, path: Path, seen: set[str] | None = None, settle_s: float = 0.15) -> None:
        self.items: list[Item] = []
        self.seen = set() if seen is None else seen
        self._stop = threading.Event()
        self._source = Folder("drop", path, 0.02, settle_s, self.seen.__contains__)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for item in self._source.frames(self._stop):
            self.items.append(item)
            if isinstance(item, Done):
                self.seen.update(item.keys)

    def of(self, kind: type) -> list:
        return [item for item in self.items if isinstance(item, kind)]

    def wait(self, kind: type, count: int) -> list:
        deadline = time.monotonic() + 10
        while len(self.of(kind)) < count:
            assert time.monotonic() < deadline, self.items
            time.sleep(0.01)
        return self.of(kind)

    def settle(self) -> None:
        time.sleep(0.4)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        assert not self._thread.is_alive()


@pytest.fixture
def watch() -> Iterator[Callable[..., Watch]]:
    made: list[Watch] = []

    def make(path: Path, **options: object) -> Watch:
        made.append(Watch(path, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def png(picture) -> Callable[[int], bytes]:
    return lambda seed: cv2.imencode(".png", picture("normal", seed))[1].tobytes()


def test_files_are_found_at_any_depth_in_the_order_they_came(tmp_path, watch, png):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    for number, folder in enumerate((deep, tmp_path, deep)):
        file = folder / f"{9 - number}.png"
        file.write_bytes(png(number))
        os.utime(file, (1000 + number, 1000 + number))
    frames = watch(tmp_path).wait(Frame, 3)
    assert len({frame.identity for frame in frames}) == 3
    assert frames[0].source == "drop"
    assert [int(frame.pixels.sum()) for frame in frames] == [
        int(cv2.imdecode(np.frombuffer(png(number), np.uint8), cv2.IMREAD_UNCHANGED).sum())
        for number in range(3)
    ]


def test_each_file_is_taken_once_however_it_is_renamed_or_copied(tmp_path, watch, png):
    (tmp_path / "1.png").write_bytes(png(1))
    watching = watch(tmp_path)
    watching.wait(Done, 1)
    (tmp_path / "1.png").rename(tmp_path / "2.png")
    (tmp_path / "3.png").write_bytes(png(1))
    watching.wait(Done, 3)
    watching.settle()
    assert len(watching.of(Frame)) == 1


def test_a_restart_takes_nothing_again(tmp_path, watch, png):
    (tmp_path / "1.png").write_bytes(png(1))
    first = watch(tmp_path)
    first.wait(Done, 1)
    first.close()
    second = watch(tmp_path, seen=first.seen)
    (tmp_path / "2.png").write_bytes(png(2))
    second.wait(Frame, 1)
    second.settle()
    assert len(second.of(Frame)) == 1


def test_a_new_picture_under_an_old_name_is_taken(tmp_path, watch, png):
    (tmp_path / "1.png").write_bytes(png(1))
    watching = watch(tmp_path)
    watching.wait(Frame, 1)
    (tmp_path / "1.png").write_bytes(png(2))
    first, second = watching.wait(Frame, 2)
    assert first.identity != second.identity


def test_a_file_that_is_still_written_waits(tmp_path, watch, png):
    watching = watch(tmp_path, settle_s=0.3)
    data = png(1)
    with (tmp_path / "1.png").open("wb") as file:
        for start in range(0, len(data), len(data) // 6):
            file.write(data[start : start + len(data) // 6])
            file.flush()
            time.sleep(0.1)
            assert not watching.items
    (frame,) = watching.wait(Frame, 1)
    assert not watching.of(Failure)
    assert frame.pixels.shape == (32, 32)


def test_an_old_time_stamp_does_not_make_a_half_file_a_failure(tmp_path, watch, png):
    data = png(1)
    half = tmp_path / "1.png"
    half.write_bytes(data[: len(data) // 2])
    os.utime(half, (1000, 1000))
    watching = watch(tmp_path, settle_s=0.5)
    time.sleep(0.2)
    assert not watching.items
    half.write_bytes(data)
    watching.wait(Frame, 1)
    watching.settle()
    assert not watching.of(Failure)


def test_what_is_no_image_is_a_failure_with_its_path_and_the_next_goes_on(tmp_path, watch, png):
    (tmp_path / "bad.png").write_text("text")
    watching = watch(tmp_path)
    (failure,) = watching.wait(Failure, 1)
    assert failure.path == tmp_path / "bad.png"
    assert failure.reason.value == "unreadable"
    (tmp_path / "good.png").write_bytes(png(1))
    watching.wait(Frame, 1)
    watching.settle()
    assert len(watching.of(Failure)) == 1


@pytest.mark.parametrize("name", [".hidden.png", "x.part", "x.png.TMP", "Thumbs.db", "DICOMDIR"])
def test_partial_and_system_files_are_left_alone(tmp_path, watch, name):
    (tmp_path / name).write_text("text")
    watching = watch(tmp_path)
    watching.settle()
    assert not watching.items


def test_a_folder_that_is_away_is_told_once_and_found_when_it_is_back(tmp_path, watch, png):
    path = tmp_path / "usb"
    watching = watch(path)
    (lost,) = watching.wait(Notice, 1)
    watching.settle()
    assert len(watching.items) == 1
    path.mkdir()
    (path / "1.png").write_bytes(png(1))
    watching.wait(Frame, 1)
    assert (lost.code, watching.of(Notice)[1].code) == ("folder_lost", "folder_back")
    assert str(tmp_path) not in lost.message


def test_links_to_folders_are_not_followed(tmp_path, watch, png):
    drop = tmp_path / "drop"
    drop.mkdir()
    (drop / "loop").symlink_to(drop)
    (drop / "1.png").write_bytes(png(1))
    watching = watch(drop)
    watching.wait(Frame, 1)
    watching.settle()
    assert len(watching.of(Frame)) == 1


def test_a_file_is_done_only_after_all_its_frames(tmp_path, watch, png):
    (tmp_path / "1.png").write_bytes(png(1))
    watching = watch(tmp_path)
    watching.wait(Done, 1)
    assert [type(item) for item in watching.items] == [Original, Frame, Done]
