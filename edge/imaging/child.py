"""A worker process that answers requests with a head of JSON and bytes: both ends of the pipe."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

__all__ = ["Child", "ChildDiedError", "answer", "confine"]

_PIPE_BYTES = 1 << 20
_MAX_HEAD_BYTES = 1 << 16
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")  # each thread of theirs takes address space


class ChildDiedError(Exception):
    """The worker ended, hung, or said what it never says; the text tells which."""


class Child:
    """A module run as a process of its own. It ends with its standard input, however this process ends."""

    def __init__(self, module: str, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders quote there what headers hold
            env=os.environ | dict.fromkeys(_THREADS, "1") | dict(env or {}),
        )
        assert self._process.stdout
        fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def ask(self, request: Mapping[str, Any]) -> None:
        """Send a request.

        Raises:
            ChildDiedError: the worker is gone.
        """
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise ChildDiedError(_how_it_ended(self._process.wait())) from error

    def head(self, timeout_s: float) -> dict[str, Any]:
        """The head of the next answer.

        Raises:
            ChildDiedError: none comes in time.
        """
        size = int.from_bytes(self.read(4, timeout_s), "big")
        if size > _MAX_HEAD_BYTES:
            raise ChildDiedError("the decoder's answer is damaged")
        head: dict[str, Any] = json.loads(self.read(size, timeout_s))
        return head

    def read(self, size: int, timeout_s: float) -> bytearray:
        """So many bytes of an answer.

        Raises:
            ChildDiedError: they do not come in time.
        """
        assert self._process.stdout
        data = bytearray(size)
        view, got = memoryview(data), 0
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + timeout_s
        while got < size:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not poll.poll(remaining * 1000):
                raise ChildDiedError(f"it takes longer than {timeout_s:g} s")
            read = os.readv(descriptor, [view[got:]])
            if not read:
                raise ChildDiedError(_how_it_ended(self._process.wait()))
            got += read
        return data

    def stop(self) -> None:
        """Kill the process and leave nothing of it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            try:
                pipe.close()
            except BrokenPipeError:  # a request that was never read
                continue


def _how_it_ended(status: int) -> str:
    return f"the decoder was ended by signal {-status}" if status < 0 else f"the decoder ended ({status})"


def answer(answers: BinaryIO, head: Mapping[str, Any], body: bytes | memoryview = b"") -> None:
    """The worker's end: send one answer."""
    encoded = json.dumps(head).encode("ascii")
    answers.write(len(encoded).to_bytes(4, "big") + encoded)
    answers.write(body)
    answers.flush()


def confine(memory_bytes: int) -> None:
    """The worker's end: bound its address space, and let it write no file, not even a core dump."""
    for what, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),  # no patient's image in a core dump
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(what, (limit, limit))
