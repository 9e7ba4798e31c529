"""Frames out of OpenCV or OpenIGTLink in a process of its own, where a decoder may fail.

Standard input brings one line that says what to open, then a line for each frame that is wanted; its end is
the process's. Of a camera or a stream the newest frame not given before is given, of a file the next.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, BinaryIO, NoReturn
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.child import answer, confine
from edge.imaging.errors import UnreadableImageError
from edge.imaging.frame import Pixels
from edge.imaging.limits import check_size

__all__ = ["IGTL_PORT", "MEMORY_BYTES"]

MEMORY_BYTES = 4 << 30
"""Of address space; FFmpeg's threads reserve much more than they use."""
IGTL_PORT = 18944
_IGTL_POLL_S = 0.005  # the client only lets itself be asked

_Grabbed = tuple[int, Pixels | None]  # index, and the frame; None where it cannot be decoded


def _grab(asked: dict[str, Any]) -> Iterator[_Grabbed]:
    url = asked["url"]
    if isinstance(url, str) and url.startswith("igtl://"):
        return _openigtlink(url, asked["read_timeout_s"])
    return _opencv(url, asked)


def _opencv(url: str | int, asked: dict[str, Any]) -> Iterator[_Grabbed]:
    cv2.setNumThreads(1)
    capture = _open(url, asked)
    index, every, start = 0, asked["every"], asked["start"]
    while capture.grab():
        if index == 0:
            size = (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
            rows, columns = (max(1, int(capture.get(side))) for side in size)
            check_size("the video", rows, columns, 3)
        if index >= start and index % every == 0:
            found, pixels = capture.retrieve()
            yield index, _rgb(pixels) if found else None
        index += 1
    capture.release()


def _open(url: str | int, asked: dict[str, Any]) -> Any:
    if isinstance(url, int) or url.startswith("/dev/"):
        return cv2.VideoCapture(url, cv2.CAP_V4L2)
    if "://" not in url:
        return cv2.VideoCapture(url, cv2.CAP_FFMPEG)
    timeouts = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        int(asked["open_timeout_s"] * 1000),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        int(asked["read_timeout_s"] * 1000),
    ]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, timeouts)


def _openigtlink(url: str, timeout_s: float) -> Iterator[_Grabbed]:
    """The first slice of each IMAGE message of 8-bit samples, of the device in the URL's path, or of all."""
    from pyigtl.comm import OpenIGTLinkClient
    from pyigtl.messages import ImageMessage

    parts = urlsplit(url)
    client = OpenIGTLinkClient(parts.hostname, parts.port or IGTL_PORT, body_receive_timeout_sec=timeout_s)
    wanted, index, heard = parts.path.strip("/"), 0, time.monotonic()
    while time.monotonic() - heard < timeout_s:
        for message in client.get_latest_messages():
            if isinstance(message, ImageMessage) and wanted in ("", message.device_name):
                heard = time.monotonic()
                yield index, _first_slice(message.image)
                index += 1
        time.sleep(_IGTL_POLL_S)


def _first_slice(image: NDArray[Any]) -> Pixels | None:
    pixels = image[0]
    if pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,)) or not pixels.size:
        return None
    rows, columns = pixels.shape[:2]
    check_size("the image", rows, columns, 3)
    return np.asarray(pixels, np.uint8)


def _rgb(pixels: Any) -> Pixels:
    """OpenCV's blue, green, red the other way round; gray stays as it is."""
    return pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


class _Newest:
    """Grabs as fast as frames come, in a thread of its own, so that none is old when it is taken."""

    def __init__(self, grabbed: Iterator[_Grabbed]) -> None:
        self._fresh = threading.Condition()
        self._newest: _Grabbed | None = None
        self._ended = False
        threading.Thread(target=self._grab, args=(grabbed,), daemon=True).start()

    def _grab(self, grabbed: Iterator[_Grabbed]) -> None:
        with suppress(UnreadableImageError):
            for each in grabbed:
                with self._fresh:
                    self._newest = each
                    self._fresh.notify()
        with self._fresh:
            self._ended = True
            self._fresh.notify()

    def __iter__(self) -> Iterator[_Grabbed]:
        while True:
            with self._fresh:
                self._fresh.wait_for(lambda: self._newest is not None or self._ended)
                newest, self._newest = self._newest, None
            if newest is None:
                return
            yield newest


def _serve(asked: dict[str, Any], requests: SimpleQueue[bytes], answers: BinaryIO) -> None:
    frames = iter(_Newest(_grab(asked)) if asked["live"] else _grab(asked))
    while requests.get():
        try:
            index, pixels = next(frames)
        except (StopIteration, UnreadableImageError):
            answer(answers, {"end": True})
            return
        if pixels is None:
            answer(answers, {"index": index})
        else:
            shown = np.ascontiguousarray(pixels)
            answer(answers, {"index": index, "shape": shown.shape}, shown.data)


def _main() -> NoReturn:
    confine(MEMORY_BYTES)
    asked = json.loads(sys.stdin.buffer.readline())
    requests: SimpleQueue[bytes] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin.buffer:
            requests.put(line)
        os._exit(0)  # the agent is gone, or stops

    threading.Thread(target=listen, daemon=True).start()
    with suppress(BrokenPipeError):
        _serve(asked, requests, sys.stdout.buffer)
    os._exit(0)


if __name__ == "__main__":
    _main()
