"""Images that modalities send by DICOM: the SCP is looked after, its inbox read."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from edge.agent.config import DicomSource
from edge.imaging.errors import UnreadableImageError
from edge.imaging.worker import Decoder
from edge.sources.base import Done, Failure, Item, Notice, Original, file_sha256

__all__ = ["DicomReceiver"]

_LOOK_S = 0.2  # how soon a stop, or a commit, is noticed
_BACK_OFF_S = (1.0, 30.0)


class DicomReceiver:
    """What arrives in an inbox folder that a storage SCP process writes (see ``dicom_scp``).

    A file leaves the inbox once all that came of it is committed; after a kill what is there is read again.
    """

    def __init__(self, config: DicomSource, inbox: Path, seen: Callable[[str], bool]) -> None:
        """``inbox`` is for this source alone; ``seen`` says whether a Done's key is committed."""
        self.name = config.name
        self._config, self._inbox, self._seen = config, inbox, seen
        self._taken: set[str] = set()
        self._lost = False

    def frames(self, stop: threading.Event) -> Iterator[Item]:
        """Frames and failures of received objects, and notices of the SCP, until ``stop``."""
        self._inbox.mkdir(mode=0o700, parents=True, exist_ok=True)
        back_off = _BACK_OFF_S[0]
        with Decoder() as decoder:
            while not stop.is_set():
                said: Queue[dict[str, Any] | None] = Queue()
                process = self._start(said)
                began = time.monotonic()
                try:
                    yield from self._receive(said, decoder, stop)
                finally:
                    process.kill()
                    process.wait()
                if time.monotonic() - began > _BACK_OFF_S[1]:
                    back_off = _BACK_OFF_S[0]
                again = time.monotonic() + back_off
                while not stop.is_set() and time.monotonic() < again:
                    yield from self._read_inbox(decoder, stop)  # what was received need not wait
                    stop.wait(_LOOK_S)
                back_off = min(2 * back_off, _BACK_OFF_S[1])

    def _start(self, said: Queue[dict[str, Any] | None]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.sources.dicom_scp"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # may quote what objects hold
            text=True,
        )
        threading.Thread(
            target=self._listen, args=(process, said), name=f"scp-{self.name}", daemon=True
        ).start()
        return process

    def _listen(self, process: subprocess.Popen[str], said: Queue[dict[str, Any] | None]) -> None:
        """Pass on what the process says; None when it ends."""
        assert process.stdin and process.stdout
        asked = {"config": self._config.model_dump_json(), "inbox": str(self._inbox)}
        # Standard input stays open: its end would be the process's.
        with suppress(BrokenPipeError), process.stdin, process.stdout:
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                said.put(json.loads(line))
        said.put(None)

    def _receive(
        self, lines: Queue[dict[str, Any] | None], decoder: Decoder, stop: threading.Event
    ) -> Iterator[Item]:
        """Until ``stop``, or until the process ends."""
        while not stop.is_set():
            yield from self._read_inbox(decoder, stop)
            try:
                said = lines.get(timeout=_LOOK_S)
            except Empty:
                continue
            if said is None:
                if not self._lost:
                    self._lost = True
                    yield self._notice("error", "source_lost", "the DICOM receiver ended; starting it again")
                return
            if "listening" in said:
                if self._lost:
                    yield self._notice("info", "source_back", "the DICOM receiver is back")
                self._lost = False
            elif "code" in said and not (self._lost and said["code"] == "source_lost"):
                self._lost = self._lost or said["code"] == "source_lost"
                yield self._notice(said["severity"], said["code"], said["message"])

    def _notice(self, severity: Any, code: str, message: str) -> Notice:
        return Notice(severity, code, f"source '{self.name}': {message}", {"source": self.name})

    def _read_inbox(self, decoder: Decoder, stop: threading.Event) -> Iterator[Item]:
        there = sorted(self._inbox.glob("*.dcm"))
        self._taken &= {path.name for path in there}
        for path in there:
            if stop.is_set():
                return
            key = f"inbox:{path.name}"
            if self._seen(key):
                path.unlink(missing_ok=True)
            elif path.name not in self._taken:
                self._taken.add(path.name)
                yield from self._read(decoder, path, key)

    def _read(self, decoder: Decoder, path: Path, key: str) -> Iterator[Item]:
        try:
            for frame in decoder.frames(path, self.name):
                if frame.index == 0:
                    yield Original(path, frame.study)
                yield frame
        except UnreadableImageError as error:
            # Whoever keeps it in the quarantine takes it away; until then it is tried again at each start.
            content = "content:" + file_sha256(path)
            yield Failure(content, content, self.name, error.reason, str(error), path)
        else:
            yield Done((key,))
