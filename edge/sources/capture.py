"""A video file, a camera or a stream: frames that a supervised process takes out of OpenCV or OpenIGTLink."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from edge.agent.config import CaptureSource
from edge.bundle.reasons import Reason
from edge.imaging.child import Child, ChildDiedError
from edge.imaging.frame import Frame, Header, Pixels
from edge.imaging.screen_capture import Box, find_scan, shows_no_signal
from edge.sources.base import Done, Failure, Item, Notice, file_sha256

__all__ = ["LiveCapture", "VideoFile"]

FROZEN_S = 2.0
"""So long a live picture may stay the same, to the last bit, before that is said."""

_START_S = 10.0  # for the process to start, on a small board under load
_STDERR_OFF = {
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    "OPENCV_LOG_LEVEL": "SILENT",
    # Not UDP, which drops packets without a word; and nothing is held back to smooth the play.
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay",
}


class _Grabber:
    """The process that has the camera, stream or file open (see ``grabber``)."""

    def __init__(self, config: CaptureSource, url: str | int, *, live: bool, start: int = 0) -> None:
        self._child = Child("edge.sources.grabber", env=_STDERR_OFF)
        asked = config.model_dump(include={"every", "open_timeout_s", "read_timeout_s"})
        self._child.ask(asked | {"url": url, "live": live, "start": start})

    def next(self, patience_s: float) -> tuple[int, Pixels | None] | None:
        """The next frame and its index, None in place of one that cannot be decoded; None at the end.

        Raises:
            ChildDiedError: none comes in time, or the process ended.
        """
        self._child.ask({"next": True})
        head: dict[str, Any] = self._child.head(patience_s)
        if "end" in head:
            return None
        if "shape" not in head:
            return head["index"], None
        shape = head["shape"]
        data = self._child.read(int(np.prod(shape)), patience_s)
        return head["index"], np.frombuffer(data, np.uint8).reshape(shape)

    def stop(self) -> None:
        self._child.stop()


class _Picture:
    """What is made of each picture before it becomes a frame: cut to the scan, and looked at for faults."""

    def __init__(self, config: CaptureSource) -> None:
        self._config = config
        self.header = Header(modality=config.modality)
        self._box: Box | None = None
        self._shape: tuple[int, ...] = ()
        self._last: Pixels | None = None

    def again(self) -> None:
        """Another study: the scan may be elsewhere."""
        self._box, self._last = None, None

    def repeats(self, pixels: Pixels) -> bool:
        """Whether a picture is the one before, to the last bit."""
        last, self._last = self._last, pixels
        return last is not None and np.array_equal(last, pixels)

    def cut(self, pixels: Pixels) -> tuple[Pixels, Reason | None]:
        """The part to judge, and why it cannot be judged."""
        if shows_no_signal(pixels):
            return pixels, Reason.NO_SIGNAL
        if not self._config.find_scan:
            return pixels, None
        if self._box is None or self._shape != pixels.shape:
            self._box, self._shape = find_scan(pixels), pixels.shape
        return (self._box.of(pixels), None) if self._box else (pixels, Reason.USER_INTERFACE)


class VideoFile:
    """Every frame of a video file, in order, or one of every ``every``; ends by itself.

    A frame is known by the file's bytes and its index, so that running over the same file again, or over a
    copy, gives the same frames. Where the process that reads it ends, another goes on from that frame; it is
    given up where that happens twice.
    """

    def __init__(self, config: CaptureSource, path: Path, seen: Callable[[str], bool]) -> None:
        """``seen`` says whether a key was yielded in a Done before."""
        self.name = config.name
        self._config, self._path, self._seen = config, path, seen

    def frames(self, stop: Event) -> Iterator[Item]:
        """Frames, or one failure, then the file's key."""
        try:
            content = "sha256:" + file_sha256(self._path)
        except OSError as error:
            message = f"source '{self.name}': the video file cannot be read ({error.strerror})"
            yield Notice("error", "source_lost", message)
            return
        key = f"video:{content}:every={self._config.every}"
        if self._seen(key):
            yield Notice(
                "info", "source_ended", f"source '{self.name}': all frames of the file were seen before"
            )
            return
        picture = _Picture(self._config)
        index = -1
        for index, pixels in self._grabbed(stop):
            if pixels is None:
                yield self._failure(content, index, f"{self._path}: frame {index} cannot be decoded")
                continue
            shown, reason = picture.cut(pixels)
            if picture.repeats(pixels):
                reason = Reason.FROZEN
            identity = f"{content}#{index}"
            yield Frame(shown, identity, content, self.name, index, picture.header, reason=reason)
        if stop.is_set():
            return
        if index < 0:
            yield self._failure(content, 0, f"{self._path}: not a video that can be read")
        yield Done((key,))
        yield Notice("info", "source_ended", f"source '{self.name}': the file ended", {"frames": index + 1})

    def _grabbed(self, stop: Event) -> Iterator[tuple[int, Pixels | None]]:
        wanted, died_at = 0, -1
        while not stop.is_set():
            grabber = _Grabber(self._config, str(self._path), live=False, start=wanted)
            try:
                patience = _START_S + self._config.open_timeout_s
                while not stop.is_set() and (grabbed := grabber.next(patience)) is not None:
                    wanted, patience = grabbed[0] + 1, self._config.open_timeout_s
                    yield grabbed
                return
            except ChildDiedError:
                if died_at == wanted:
                    yield wanted, None
                    return
                died_at = wanted
            finally:
                grabber.stop()

    def _failure(self, content: str, index: int, message: str) -> Failure:
        # The file itself was named in the configuration: it stays where it is.
        return Failure(f"{content}#{index}", content, self.name, Reason.UNREADABLE, message)


class LiveCapture:
    """The newest frame of a camera or a stream, each time one is asked for; opened again when it is lost.

    A study is a run of frames without a silence of ``silence_s``. A picture that is the one before, to the
    last bit, is left out; when that has gone on for ``FROZEN_S`` it is given once, as frozen.
    """

    def __init__(self, config: CaptureSource, silence_s: float) -> None:
        self.name = config.name
        self._config, self._silence_s = config, silence_s
        self._study, self._heard = "", float("-inf")
        self._still_since: float | None = None
        self._picture = _Picture(config)

    def frames(self, stop: Event) -> Iterator[Item]:
        """Frames until ``stop``, and notices when the camera is lost and when it is back."""
        lost = False
        config = self._config
        while not stop.is_set():
            grabber = _Grabber(config, config.url, live=True)
            patience = _START_S + config.open_timeout_s + config.read_timeout_s
            try:
                while not stop.is_set() and (grabbed := grabber.next(patience)) is not None:
                    patience = config.read_timeout_s
                    if lost:
                        yield Notice("info", "source_back", f"source '{self.name}': frames arrive again")
                        lost = False
                    index, pixels = grabbed
                    if pixels is not None and (frame := self._frame(index, pixels)):
                        yield frame
            except ChildDiedError:
                pass
            finally:
                grabber.stop()
            if not lost and not stop.is_set():
                yield Notice(
                    "warning", "source_lost", f"source '{self.name}': no frames arrive; trying again"
                )
                lost = True
            stop.wait(config.retry_s)

    def _frame(self, index: int, pixels: Pixels) -> Frame | None:
        now = time.monotonic()
        if now - self._heard > self._silence_s:
            self._study = f"live:{uuid.uuid4().hex}"
            self._picture.again()
            self._still_since = None
        self._heard = now
        reason = None
        if self._picture.repeats(pixels):
            if self._still_since is None or now - self._still_since < FROZEN_S:
                return None
            self._still_since, reason = None, Reason.FROZEN  # and no more of it until something changes
        else:
            self._still_since = now
        shown, fault = self._picture.cut(pixels)
        return Frame(
            shown,
            f"{self._study}#{uuid.uuid4().hex}",
            self._study,
            self.name,
            index,
            self._picture.header,
            reason=reason or fault,
            live=True,
        )
