"""Live pictures from real servers: RTSP (GStreamer), motion JPEG (FFmpeg) and OpenIGTLink (pyigtl)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edge.agent.config import CaptureSource
from edge.imaging.frame import Frame
from edge.sources.base import Item, Notice
from edge.sources.capture import LiveCapture
from tests.integration.conftest import free_port, wait_for

pytestmark = pytest.mark.integration

_SUPPORT = Path(__file__).parents[1] / "support"
_SYSTEM_PYTHON = "/usr/bin/python3"


def rtsp(port: int) -> tuple[list[str], str]:
    check = "import gi; gi.require_version('GstRtspServer', '1.0')"
    if subprocess.run([_SYSTEM_PYTHON, "-c", check], capture_output=True, check=False).returncode:
        pytest.skip("no RTSP server: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0")
    command = [_SYSTEM_PYTHON, str(_SUPPORT / "rtsp_server.py"), str(port)]
    return command, f"rtsp://127.0.0.1:{port}/scan"


def mjpeg(port: int) -> tuple[list[str], str]:
    if shutil.which("ffmpeg") is None:
        pytest.skip("FFmpeg is missing: apt-get install ffmpeg")
    url = f"http://127.0.0.1:{port}/scan.mjpg"
    pictures = ["-re", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=30"]
    served = ["-c:v", "mjpeg", "-f", "mpjpeg", "-content_type", "multipart/x-mixed-replace;boundary=ffmpeg"]
    return ["ffmpeg", "-loglevel", "quiet", *pictures, *served, "-listen", "1", url], url


def openigtlink(port: int) -> tuple[list[str], str]:
    pytest.importorskip("pyigtl", reason="pip install 'scanwright[openigtlink]'")
    return [sys.executable, str(_SUPPORT / "igtl_server.py"), str(port)], f"igtl://127.0.0.1:{port}/Scan"


class Server:
    """A server of pictures that may be killed and started again on the same port."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture
def server() -> Iterator[Callable[[list[str]], Server]]:
    made: list[Server] = []

    def make(command: list[str]) -> Server:
        made.append(Server(command))
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.mark.parametrize(
    ("kind", "shape"), [(rtsp, (240, 320, 3)), (mjpeg, (240, 320, 3)), (openigtlink, (120, 160))]
)
def test_a_stream_gives_frames_and_is_taken_again_after_its_server_was_killed(
    kind: Callable[[int], tuple[list[str], str]], shape: tuple[int, ...], server: Any
) -> None:
    command, url = kind(free_port())
    serving = server(command)
    config = CaptureSource(name="scan", url=url, open_timeout_s=5, read_timeout_s=2, retry_s=0.3)
    stop = threading.Event()
    items: list[Item] = []

    def run() -> None:
        for item in LiveCapture(config, 60).frames(stop):
            items.append(item)

    running = threading.Thread(target=run)
    running.start()
    try:
        codes: Callable[[], list[str]] = lambda: [i.code for i in list(items) if isinstance(i, Notice)]  # noqa: E731
        wait_for(lambda: codes() == ["source_lost"])
        serving.start()
        wait_for(lambda: sum(isinstance(item, Frame) for item in list(items)) > 20)
        assert codes() == ["source_lost", "source_back"]
        serving.kill()
        wait_for(lambda: codes() == ["source_lost", "source_back", "source_lost"])
        count = len(items)
        serving.start()
        wait_for(lambda: sum(isinstance(item, Frame) for item in items[count:]) > 5)
    finally:
        stop.set()
        running.join(15)
    assert not running.is_alive()
    frames = [item for item in items if isinstance(item, Frame)]
    assert {frame.pixels.shape for frame in frames} == {shape}
    assert {frame.reason for frame in frames} == {None}
    assert all((a.pixels != b.pixels).any() for a, b in pairwise(frames))
    assert len({frame.study for frame in frames}) == 1
