from __future__ import annotations

import http.server
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.agent.config import CaptureSource
from edge.bundle.reasons import Reason
from edge.imaging.frame import Frame
from edge.sources import capture
from edge.sources.base import Done, Failure, Notice
from edge.sources.capture import LiveCapture, VideoFile


def write_video(path: Path, frames: int) -> Path:
    """A clip whose frames get brighter, red on the left."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for number in range(frames):
        pixels = np.full((48, 64, 3), number * 4, np.uint8)
        pixels[:, :16] = (0, 0, 250)
        video.write(pixels)
    video.release()
    return path


def video(path: Path, every: int = 1, seen: Callable[[str], bool] = lambda _key: False) -> VideoFile:
    return VideoFile(CaptureSource(name="clip", url=str(path), every=every), path, seen)


def test_every_frame_of_a_file_comes_in_order_in_rgb(tmp_path):
    path = write_video(tmp_path / "clip.avi", 40)
    *frames, done, notice = video(path).frames(threading.Event())
    assert all(isinstance(frame, Frame) for frame in frames) and len(frames) == 40
    assert [frame.index for frame in frames] == list(range(40))
    levels = [float(frame.pixels[:, 32:].mean()) for frame in frames]
    assert levels == sorted(levels)
    assert frames[0].pixels[24, 4, 0] > 200 > 60 > frames[0].pixels[24, 4, 2]
    assert len({frame.identity for frame in frames}) == 40 and len({frame.study for frame in frames}) == 1
    assert isinstance(done, Done) and isinstance(notice, Notice) and notice.code == "source_ended"


def test_a_copy_of_a_file_gives_the_same_frames(tmp_path):
    path = write_video(tmp_path / "clip.avi", 5)
    copy = Path(shutil.copy(path, tmp_path / "copy.avi"))
    stop = threading.Event()
    first, second = (
        [item.identity for item in video(p, 2).frames(stop) if isinstance(item, Frame)] for p in (path, copy)
    )
    assert first == second and len(first) == 3


def test_a_file_seen_to_its_end_is_not_read_again(tmp_path):
    path = write_video(tmp_path / "clip.avi", 5)
    seen: set[str] = set()
    stop = threading.Event()
    for item in video(path, seen=seen.__contains__).frames(stop):
        if isinstance(item, Done):
            seen.update(item.keys)
    (notice,) = video(path, seen=seen.__contains__).frames(stop)
    assert isinstance(notice, Notice) and notice.code == "source_ended"


def test_a_stop_in_the_middle_does_not_count_as_seen(tmp_path):
    path = write_video(tmp_path / "clip.avi", 20)
    stop = threading.Event()
    items = []
    for item in video(path).frames(stop):
        items.append(item)
        if len(items) == 5:
            stop.set()
    assert len(items) == 5


def test_a_file_that_is_no_video_is_one_failure(tmp_path):
    path = tmp_path / "clip.avi"
    path.write_text("no video")
    failure, done, _ = video(path).frames(threading.Event())
    assert isinstance(failure, Failure) and failure.path is None and isinstance(done, Done)


def test_a_missing_file_is_told_without_its_path(tmp_path):
    (notice,) = video(tmp_path / "none.avi").frames(threading.Event())
    assert isinstance(notice, Notice) and notice.code == "source_lost"
    assert str(tmp_path) not in notice.message


class _Camera(http.server.BaseHTTPRequestHandler):
    """A network camera: motion JPEG, a brighter frame every 20 ms."""

    frames = 10_000

    def picture(self, number: int) -> np.ndarray:
        return np.full((48, 64, 3), number % 256, np.uint8)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(self.frames):
            jpeg = cv2.imencode(".jpg", self.picture(number))[1].tobytes()
            try:
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n")
                self.wfile.write(f"Content-Length: {len(jpeg)}\r\n\r\n".encode() + jpeg + b"\r\n")
            except OSError:
                return
            time.sleep(0.02)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def camera() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Camera)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def live(port: int, silence_s: float = 30.0, **changes: float) -> LiveCapture:
    options = {"open_timeout_s": 3.0, "read_timeout_s": 3.0, "retry_s": 0.1} | changes
    return LiveCapture(CaptureSource(name="cam", url=f"http://127.0.0.1:{port}/", **options), silence_s)


def children() -> list[int]:
    """The processes that have a stream or a file open for this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"edge.sources.grabber" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_a_slow_consumer_gets_the_newest_frame_of_a_stream(camera):
    stop = threading.Event()
    frames = live(camera.server_port).frames(stop)
    first = next(frames)
    time.sleep(1.0)
    second = next(frames)
    stop.set()
    assert isinstance(first, Frame) and isinstance(second, Frame)
    assert second.index - first.index > 20
    assert first.study == second.study and first.identity != second.identity
    assert list(frames) == []


def test_a_lost_stream_is_told_once_and_taken_again_when_it_is_back(camera, monkeypatch):
    monkeypatch.setattr(_Camera, "frames", 5)
    stop = threading.Event()
    items = []
    for item in live(camera.server_port, silence_s=0.01).frames(stop):
        items.append(item)
        if len(items) > 200 or sum(isinstance(item, Notice) for item in items) == 4:
            stop.set()
    codes = [item.code for item in items if isinstance(item, Notice)]
    assert codes == ["source_lost", "source_back", "source_lost", "source_back"]


def test_a_camera_that_is_not_there_is_told_once():
    stop = threading.Event()
    frames = live(9).frames(stop)
    notice = next(frames)
    assert isinstance(notice, Notice) and notice.code == "source_lost"
    threading.Timer(3.0, stop.set).start()
    assert list(frames) == []


def test_a_decoder_that_dies_costs_a_camera_its_connection_and_a_file_nothing(camera, tmp_path):
    stop = threading.Event()
    frames = live(camera.server_port).frames(stop)
    assert isinstance(next(frames), Frame)
    (first,) = children()
    os.kill(first, signal.SIGKILL)
    codes = []
    while len(codes) < 2:
        item = next(frames)
        if isinstance(item, Notice):
            codes.append(item.code)
    assert codes == ["source_lost", "source_back"]
    assert isinstance(next(frames), Frame)
    stop.set()
    assert list(frames) == [] and children() == []

    indices = []
    for item in video(write_video(tmp_path / "clip.avi", 30)).frames(threading.Event()):
        if isinstance(item, Frame):
            indices.append(item.index)
            if item.index == 9:
                os.kill(children()[0], signal.SIGKILL)
    assert indices == list(range(30))


def test_a_camera_that_hangs_is_given_up_and_opened_again(camera):
    stop = threading.Event()
    frames = live(camera.server_port, read_timeout_s=1.0).frames(stop)
    assert isinstance(next(frames), Frame)
    (hung,) = children()
    os.kill(hung, signal.SIGSTOP)
    while not isinstance(item := next(frames), Notice):
        pass
    assert item.code == "source_lost"
    assert isinstance(next(frames), Notice) and isinstance(next(frames), Frame)
    assert hung not in children()
    stop.set()
    frames.close()
    assert children() == []


def test_a_frozen_picture_is_told_once_until_it_changes(camera, monkeypatch):
    monkeypatch.setattr(capture, "FROZEN_S", 0.3)
    level = [0]
    monkeypatch.setattr(_Camera, "picture", lambda _self, _number: np.full((48, 64, 3), level[0], np.uint8))
    stop = threading.Event()
    frames = live(camera.server_port).frames(stop)
    assert next(frames).reason is None
    assert next(frames).reason is Reason.FROZEN
    threading.Timer(1.0, lambda: level.__setitem__(0, 200)).start()
    began = time.monotonic()
    changed = next(frames)
    assert changed.reason is None and changed.pixels.mean() > 150 and time.monotonic() - began > 0.8
    assert next(frames).reason is Reason.FROZEN
    stop.set()
    frames.close()


def test_a_repeated_frame_of_a_file_is_no_result(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for level in (40, 40, 90, 90, 40):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    frames = [item for item in video(path).frames(threading.Event()) if isinstance(item, Frame)]
    assert [frame.reason for frame in frames] == [None, Reason.FROZEN, None, Reason.FROZEN, None]


def test_an_input_without_a_machine_is_no_signal(camera, monkeypatch):
    monkeypatch.setattr(
        _Camera, "picture", lambda _self, n: np.full((48, 64, 3), (230, 10, 20 + n % 2), np.uint8)
    )
    stop = threading.Event()
    frame = next(live(camera.server_port).frames(stop))
    assert isinstance(frame, Frame) and frame.reason is Reason.NO_SIGNAL and frame.live
