"""Decoding in a process of its own, under limits: what a file does to a decoder, it does there."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn

import numpy as np

from edge.bundle.reasons import Reason
from edge.errors import ScanwrightError
from edge.imaging.child import Child, ChildDiedError, answer, confine
from edge.imaging.errors import UnreadableImageError
from edge.imaging.frame import Frame, Header

__all__ = ["MEMORY_BYTES", "TIMEOUT_S", "Decoder"]

MEMORY_BYTES = 3 << 29
"""Of address space: enough for the largest image that ``edge.imaging.limits`` admits."""
TIMEOUT_S = 60.0
"""For each frame, in wall-clock and in processor time; the first frame may need a look at all of them."""


class Decoder:
    """Does what :func:`edge.imaging.decode.decode_file` does, in a worker process that it looks after.

    The worker serves file after file. Where one kills it, or takes longer or more memory than it may, that
    file is unreadable and the next gets a new worker. Use as a context manager, from one thread.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES, timeout_s: float = TIMEOUT_S) -> None:
        self._memory_bytes, self._timeout_s = memory_bytes, timeout_s
        self._worker: Child | None = None
        self._ready = False

    def __enter__(self) -> Decoder:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def frames(self, path: Path, source: str) -> Iterator[Frame]:
        """The frames of a file, as they are asked for.

        Raises:
            UnreadableImageError: as ``decode_file`` does, and where the file ended or outlasted the worker.
            ScanwrightError: the worker does not start.
        """
        worker = self._await_ready()
        complete = False
        try:
            worker.ask({"path": str(path), "source": source})
            while "end" not in (head := worker.head(self._timeout_s)):
                if "error" in head:
                    complete = True
                    raise UnreadableImageError(str(head["error"]), Reason(head["reason"]))
                yield self._frame(worker, head)
            complete = True
        except ChildDiedError as error:
            raise UnreadableImageError(f"{path}: the image cannot be decoded: {error}") from error
        finally:
            if not complete:
                self._stop()

    def _start(self) -> Child:
        if self._worker is None:
            self._worker = Child(__name__, str(self._memory_bytes), str(self._timeout_s))
            self._ready = False
        return self._worker

    def _stop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    def _await_ready(self) -> Child:
        """That the worker starts is no matter of any file."""
        worker = self._start()
        if not self._ready:
            try:
                self._ready = "ready" in worker.head(self._timeout_s)
            except ChildDiedError as error:
                self._stop()
                raise ScanwrightError(f"the image decoder does not start ({error})") from error
        return worker

    def _frame(self, worker: Child, head: dict[str, Any]) -> Frame:
        size = int(np.prod(head["shape"]))
        pixels = np.frombuffer(worker.read(size, self._timeout_s), np.uint8).reshape(head["shape"])
        reason = head["reason"] and Reason(head["reason"])
        return Frame(pixels, header=Header(**head["header"]), reason=reason, **head["frame"])


def _serve(requests: BinaryIO, answers: BinaryIO, cpu_s: float) -> None:
    from edge.imaging.decode import decode_file

    answer(answers, {"ready": True})
    import edge.imaging.dicom  # noqa: F401  takes longest: not when the first file waits

    for request in requests:
        asked = json.loads(request)
        _allow_cpu(cpu_s)
        try:
            for frame in decode_file(Path(asked["path"]), asked["source"]):
                said = {
                    "frame": {
                        name: getattr(frame, name) for name in ("identity", "study", "source", "index")
                    },
                    "header": asdict(frame.header),
                    "reason": frame.reason,
                    "shape": frame.pixels.shape,
                }
                answer(answers, said, np.ascontiguousarray(frame.pixels).data)
                _allow_cpu(cpu_s)
        except UnreadableImageError as error:
            answer(answers, {"error": str(error), "reason": error.reason})
        else:
            answer(answers, {"end": True})


def _allow_cpu(seconds: float) -> None:
    """From now on; the signal that comes after that ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _main() -> NoReturn:
    """Serve requests from standard input until it ends: ``memory_bytes cpu_s``."""
    memory_bytes, cpu_s = int(sys.argv[1]), float(sys.argv[2])
    confine(memory_bytes)
    try:
        _serve(sys.stdin.buffer, sys.stdout.buffer, cpu_s)
    except (BrokenPipeError, KeyboardInterrupt):  # the agent is gone, or stops
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _main()
