"""Decoding in a process of its own, under limits: what a file does to a decoder, it does there."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn

import numpy as np

from edge.bundle.reasons import Reason
from edge.errors import ScanwrightError
from edge.imaging.errors import UnreadableImageError
from edge.imaging.frame import Frame, Header

__all__ = ["MEMORY_BYTES", "TIMEOUT_S", "Decoder"]

MEMORY_BYTES = 3 << 29
"""Of address space: enough for the largest image that ``edge.imaging.limits`` admits."""
TIMEOUT_S = 60.0
"""For each frame, in wall-clock and in processor time; the first frame may need a look at all of them."""

_PIPE_BYTES = 1 << 20
_MAX_HEAD_BYTES = 1 << 16
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")  # each thread of theirs takes address space


class _DiedError(Exception):
    """The worker ended, hung, or said what it never says; the text tells which."""


class Decoder:
    """Does what :func:`edge.imaging.decode.decode_file` does, in a worker process that it looks after.

    The worker serves file after file. Where one kills it, or takes longer or more memory than it may, that
    file is unreadable and the next gets a new worker. Use as a context manager, from one thread.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES, timeout_s: float = TIMEOUT_S) -> None:
        self._memory_bytes, self._timeout_s = memory_bytes, timeout_s
        self._worker: subprocess.Popen[bytes] | None = None
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
        self._await_ready()
        worker = self._start()
        complete = False
        try:
            assert worker.stdin
            worker.stdin.write(json.dumps({"path": str(path), "source": source}).encode("ascii") + b"\n")
            worker.stdin.flush()
            while "end" not in (head := self._head()):
                if "error" in head:
                    complete = True
                    raise UnreadableImageError(str(head["error"]), Reason(head["reason"]))
                yield self._frame(head)
            complete = True
        except (_DiedError, BrokenPipeError) as error:
            why = str(error) if isinstance(error, _DiedError) else "it ended the decoder"
            raise UnreadableImageError(f"{path}: the image cannot be decoded: {why}") from error
        finally:
            if not complete:
                self._stop()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._worker is None:
            self._worker = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self._memory_bytes), str(self._timeout_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # decoders quote there what headers hold
                env=os.environ | dict.fromkeys(_THREADS, "1"),
            )
            assert self._worker.stdout
            fcntl.fcntl(self._worker.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            self._ready = False
        return self._worker

    def _stop(self) -> None:
        if self._worker is None:
            return
        worker, self._worker = self._worker, None
        worker.kill()
        worker.wait()
        for pipe in (worker.stdin, worker.stdout):
            assert pipe
            try:
                pipe.close()
            except BrokenPipeError:  # a request that was never read
                continue

    def _await_ready(self) -> None:
        """That the worker starts is no matter of any file."""
        self._start()
        if self._ready:
            return
        try:
            self._ready = "ready" in self._head()
        except _DiedError as error:
            self._stop()
            raise ScanwrightError(f"the image decoder does not start ({error})") from error

    def _frame(self, head: dict[str, Any]) -> Frame:
        pixels = np.frombuffer(self._read(int(np.prod(head["shape"]))), np.uint8).reshape(head["shape"])
        return Frame(pixels, header=Header(**head["header"]), **head["frame"])

    def _head(self) -> dict[str, Any]:
        size = int.from_bytes(self._read(4), "big")
        if size > _MAX_HEAD_BYTES:
            raise _DiedError("the decoder's answer is damaged")
        head: dict[str, Any] = json.loads(self._read(size))
        return head

    def _read(self, size: int) -> bytearray:
        """So many bytes of the worker's answer, in time."""
        assert self._worker and self._worker.stdout
        data = bytearray(size)
        view, got = memoryview(data), 0
        descriptor = self._worker.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + self._timeout_s
        while got < size:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not poll.poll(remaining * 1000):
                raise _DiedError(f"it takes longer than {self._timeout_s:g} s")
            read = os.readv(descriptor, [view[got:]])
            if not read:
                raise _DiedError(_how_it_ended(self._worker.wait()))
            got += read
        return data


def _how_it_ended(status: int) -> str:
    return f"the decoder was ended by signal {-status}" if status < 0 else f"the decoder ended ({status})"


def _serve(requests: BinaryIO, answers: BinaryIO, cpu_s: float) -> None:
    from edge.imaging.decode import decode_file

    _answer(answers, {"ready": True})
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
                    "shape": frame.pixels.shape,
                }
                _answer(answers, said, np.ascontiguousarray(frame.pixels).data)
                _allow_cpu(cpu_s)
        except UnreadableImageError as error:
            _answer(answers, {"error": str(error), "reason": error.reason.value})
        else:
            _answer(answers, {"end": True})


def _answer(answers: BinaryIO, head: dict[str, Any], body: bytes | memoryview = b"") -> None:
    encoded = json.dumps(head).encode("ascii")
    answers.write(len(encoded).to_bytes(4, "big") + encoded)
    answers.write(body)
    answers.flush()


def _allow_cpu(seconds: float) -> None:
    """From now on; the signal that comes after that ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _main() -> NoReturn:
    """Serve requests from standard input until it ends: ``memory_bytes cpu_s``."""
    memory_bytes, cpu_s = int(sys.argv[1]), float(sys.argv[2])
    for what, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),  # no patient's image in a core dump
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(what, (limit, limit))
    try:
        _serve(sys.stdin.buffer, sys.stdout.buffer, cpu_s)
    except (BrokenPipeError, KeyboardInterrupt):  # the agent is gone, or stops
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _main()
