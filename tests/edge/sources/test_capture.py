from __future__ import annotations

import http.server
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.imaging.frame import Frame
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


def test_every_frame_of_a_file_comes_in_order_in_rgb(tmp_path):
    path = write_video(tmp_path / "clip.avi", 40)
    *frames, done, notice = VideoFile("clip", path, 1, lambda _key: False).frames(threading.Event())
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
        [
            item.identity
            for item in VideoFile("v", p, 2, lambda _key: False).frames(stop)
            if isinstance(item, Frame)
        ]
        for p in (path, copy)
    )
    assert first == second and len(first) == 3


def test_a_file_seen_to_its_end_is_not_read_again(tmp_path):
    path = write_video(tmp_path / "clip.avi", 5)
    seen: set[str] = set()
    stop = threading.Event()
    for item in VideoFile("v", path, 1, seen.__contains__).frames(stop):
        if isinstance(item, Done):
            seen.update(item.keys)
    (notice,) = VideoFile("v", path, 1, seen.__contains__).frames(stop)
    assert isinstance(notice, Notice) and notice.code == "source_ended"


def test_a_stop_in_the_middle_does_not_count_as_seen(tmp_path):
    path = write_video(tmp_path / "clip.avi", 20)
    stop = threading.Event()
    items = []
    for item in VideoFile("v", path, 1, lambda _key: False).frames(stop):
        items.append(item)
        if len(items) == 5:
            stop.set()
    assert len(items) == 5


def test_a_file_that_is_no_video_is_one_failure(tmp_path):
    path = tmp_path / "clip.avi"
    path.write_text("no video")
    failure, done, _ = VideoFile("v", path, 1, lambda _key: False).frames(threading.Event())
    assert isinstance(failure, Failure) and failure.path is None and isinstance(done, Done)


def test_a_missing_file_is_told_without_its_path(tmp_path):
    (notice,) = VideoFile("v", tmp_path / "none.avi", 1, lambda _key: False).frames(threading.Event())
    assert isinstance(notice, Notice) and notice.code == "source_lost"
    assert str(tmp_path) not in notice.message


class _Camera(http.server.BaseHTTPRequestHandler):
    """A network camera: motion JPEG, a brighter frame every 20 ms."""

    frames = 10_000

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(self.frames):
            jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), number % 256, np.uint8))[1].tobytes()
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


def live(port: int, **changes: float) -> LiveCapture:
    options = {"open_timeout_s": 3.0, "read_timeout_s": 3.0, "retry_s": 0.1, "silence_s": 30.0} | changes
    return LiveCapture("cam", f"http://127.0.0.1:{port}/", 1, **options)


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


def test_a_camera_that_is_not_there_is_told_once(unused_port=9):
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    (notice,) = live(unused_port, open_timeout_s=0.5, read_timeout_s=0.5).frames(stop)
    assert isinstance(notice, Notice) and notice.code == "source_lost"
