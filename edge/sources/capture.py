"""A video file, a camera or a stream, through OpenCV (which brings FFmpeg and V4L2)."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.bundle.reasons import Reason
from edge.imaging.frame import Frame, Pixels
from edge.sources.base import Done, Failure, Item, Notice, file_sha256

__all__ = ["LiveCapture", "VideoFile"]


class VideoFile:
    """Every frame of a video file, in order, or one of every ``every``; ends by itself.

    A frame is known by the file's bytes and its index, so that running over the same file again, or over a
    copy, gives the same frames.
    """

    def __init__(self, name: str, path: Path, every: int, seen: Callable[[str], bool]) -> None:
        """``seen`` says whether a key was yielded in a Done before."""
        self.name = name
        self._path, self._every, self._seen = path, every, seen

    def frames(self, stop: threading.Event) -> Iterator[Item]:
        """Frames, or one failure, then the file's key."""
        try:
            content = "sha256:" + file_sha256(self._path)
        except OSError as error:
            message = f"source '{self.name}': the video file cannot be read ({error.strerror})"
            yield Notice("error", "source_lost", message)
            return
        key = f"video:{content}:every={self._every}"
        if self._seen(key):
            yield Notice(
                "info", "source_ended", f"source '{self.name}': all frames of the file were seen before"
            )
            return
        video = cv2.VideoCapture(str(self._path))
        try:
            index = 0
            while not stop.is_set() and video.grab():
                if index % self._every == 0:
                    found, pixels = video.retrieve()
                    if found:
                        yield Frame(_rgb(pixels), f"{content}#{index}", content, self.name, index)
                    else:
                        yield self._failure(content, index, f"{self._path}: frame {index} cannot be decoded")
                index += 1
        finally:
            video.release()
        if stop.is_set():
            return
        if index == 0:
            yield self._failure(content, 0, f"{self._path}: not a video that can be read")
        yield Done((key,))
        yield Notice("info", "source_ended", f"source '{self.name}': the file ended", {"frames": index})

    def _failure(self, content: str, index: int, message: str) -> Failure:
        # The file itself was named in the configuration: it stays where it is.
        return Failure(f"{content}#{index}", content, self.name, Reason.UNREADABLE, message)


class LiveCapture:
    """The newest frame of a camera or a stream, each time one is asked for; opened again when it is lost.

    A study is a run of frames without a silence of ``silence_s``.
    """

    def __init__(
        self,
        name: str,
        url: str | int,
        every: int,
        *,
        open_timeout_s: float,
        read_timeout_s: float,
        retry_s: float,
        silence_s: float,
    ) -> None:
        self.name = name
        self._url, self._every, self._silence_s = url, every, silence_s
        self._open_timeout_s, self._read_timeout_s, self._retry_s = open_timeout_s, read_timeout_s, retry_s
        self._fresh = threading.Condition()
        self._newest: tuple[int, Pixels] | None = None
        self._ended = False

    def frames(self, stop: threading.Event) -> Iterator[Item]:
        """Frames until ``stop``, and notices when the camera is lost and when it is back."""
        lost = False
        study, last = "", float("-inf")
        while not stop.is_set():
            grabbing = threading.Event()
            grabbing.set()
            with self._fresh:
                self._newest, self._ended = None, False
            threading.Thread(
                target=self._grab, args=(grabbing,), name=f"grab-{self.name}", daemon=True
            ).start()
            patience = self._open_timeout_s + self._read_timeout_s
            while (newest := self._next(stop, patience)) is not None:
                index, pixels = newest
                patience = self._read_timeout_s
                if lost:
                    yield Notice("info", "source_back", f"source '{self.name}': frames arrive again")
                    lost = False
                now = time.monotonic()
                if now - last > self._silence_s:
                    study = f"live:{uuid.uuid4().hex}"
                last = now
                yield Frame(pixels, f"{study}#{uuid.uuid4().hex}", study, self.name, index)
            grabbing.clear()
            if not lost and not stop.is_set():
                yield Notice(
                    "warning", "source_lost", f"source '{self.name}': no frames arrive; trying again"
                )
                lost = True
            stop.wait(self._retry_s)

    def _next(self, stop: threading.Event, patience_s: float) -> tuple[int, Pixels] | None:
        """The newest frame not yet taken; None when none comes in time or the grabber has ended."""
        deadline = time.monotonic() + patience_s
        with self._fresh:
            while self._newest is None:
                remaining = deadline - time.monotonic()
                if self._ended or stop.is_set() or remaining <= 0:
                    return None
                self._fresh.wait(min(remaining, 0.2))
            newest, self._newest = self._newest, None
            return newest

    def _grab(self, grabbing: threading.Event) -> None:
        """Read as fast as frames come, so that none is old when it is taken."""
        capture = self._open()
        index = 0
        while grabbing.is_set() and capture.grab():
            if index % self._every == 0:
                found, pixels = capture.retrieve()
                if found and grabbing.is_set():
                    with self._fresh:
                        self._newest = (index, _rgb(pixels))
                        self._fresh.notify()
            index += 1
        capture.release()
        with self._fresh:
            if grabbing.is_set():
                self._ended = True
                self._fresh.notify()

    def _open(self) -> Any:
        if isinstance(self._url, int) or self._url.startswith("/dev/"):
            return cv2.VideoCapture(self._url, cv2.CAP_V4L2)
        timeouts = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            int(self._open_timeout_s * 1000),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            int(self._read_timeout_s * 1000),
        ]
        return cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, timeouts)


def _rgb(pixels: Any) -> Pixels:
    """OpenCV's blue, green, red the other way round; gray stays as it is."""
    return pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
