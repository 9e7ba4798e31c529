"""A folder that images and DICOM files are dropped into, at any depth."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path

from edge.imaging.errors import UnreadableImageError
from edge.imaging.worker import Decoder
from edge.sources.base import Done, Failure, Item, Notice, Original, file_sha256

__all__ = ["Folder"]

# Names under which copying programs keep a file that is not complete, and what systems leave in folders.
_PARTIAL = (".part", ".partial", ".filepart", ".tmp", ".crdownload")
_NOT_IMAGES = frozenset({"thumbs.db", "desktop.ini", "dicomdir"})
_SCAN_SHARE = 0.05  # most of the time that is spent on looking

_Signature = tuple[int, int, int]  # time of change in ns, bytes, inode


class Folder:
    """Polls a folder and takes each file once: by its content, wherever it is moved to and after restarts.

    A file is taken when it has not changed for ``settle_s``. One that cannot be decoded is watched for that
    long here, whatever its time stamp says, before it counts as a failure. Subfolders are followed, symbolic
    links to folders are not; names that start with a dot are left alone.
    """

    def __init__(
        self, name: str, path: Path, poll_s: float, settle_s: float, seen: Callable[[str], bool]
    ) -> None:
        """``seen`` says whether a key was yielded in a Done before."""
        self.name = name
        self._path, self._poll_s, self._settle_s, self._seen = path, poll_s, settle_s, seen
        self._handled: dict[str, _Signature] = {}
        self._watched: dict[str, tuple[_Signature, float]] = {}
        self._complained: set[str] = set()

    def frames(self, stop: threading.Event) -> Iterator[Item]:
        """Frames, failures and keys of files, until ``stop``."""
        with Decoder() as decoder:
            yield from self._watch(decoder, stop)

    def _watch(self, decoder: Decoder, stop: threading.Event) -> Iterator[Item]:
        while not stop.is_set():
            began = time.monotonic()
            try:
                found = _scan(str(self._path))
            except OSError as error:
                yield from self._complain(str(self._path), "folder_lost", "the folder", error)
                found = {}
            else:
                if str(self._path) in self._complained:
                    yield Notice("info", "folder_back", f"source '{self.name}': the folder is back")
                self._complained &= found.keys()
            elapsed = time.monotonic() - began
            self._handled = {path: self._handled[path] for path in found.keys() & self._handled.keys()}
            self._watched = {path: self._watched[path] for path in found.keys() & self._watched.keys()}
            for path, signature in sorted(found.items(), key=lambda item: (item[1][0], item[0])):
                if stop.is_set():
                    return
                if self._handled.get(path) != signature:
                    yield from self._look(decoder, path, signature)
            stop.wait(max(self._poll_s, elapsed / _SCAN_SHARE))

    def _look(self, decoder: Decoder, path: str, signature: _Signature) -> Iterator[Item]:
        watched, since = self._watched.get(path, (None, 0.0))
        now = time.monotonic()
        if watched != signature:
            since = now
            self._watched[path] = (signature, now)
        settled = now - since >= self._settle_s
        age = time.time() - signature[0] / 1e9
        if not settled and age < self._settle_s:
            return
        place = f"place:{path}:{signature}"
        if not self._seen(place):
            try:
                content = "content:" + file_sha256(Path(path))
                if not self._seen(content):
                    failure = yield from self._decode(decoder, path, content)
                    if _signature(Path(path).stat()) != signature or (failure and not settled):
                        return  # it changes still: look again
                    if failure:
                        yield failure
                yield Done((content, place))
            except FileNotFoundError:
                return
            except OSError as error:
                yield from self._complain(path, "file_unreadable", "a file", error)
                return
        self._handled[path] = signature

    def _decode(self, decoder: Decoder, path: str, content: str) -> Generator[Item, None, Failure | None]:
        try:
            for frame in decoder.frames(Path(path), self.name):
                if frame.index == 0:
                    yield Original(Path(path), frame.study)
                yield frame
        except UnreadableImageError as error:
            return Failure(content, content, self.name, error.reason, str(error), Path(path))
        return None

    def _complain(self, path: str, code: str, what: str, error: OSError) -> Iterator[Notice]:
        if path not in self._complained:
            self._complained.add(path)
            yield Notice("warning", code, f"source '{self.name}': {what} cannot be read ({error.strerror})")


def _scan(folder: str) -> dict[str, _Signature]:
    """The files under a folder that may be images; what vanishes meanwhile is left out."""
    found: dict[str, _Signature] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name.lower()
            if name.startswith(".") or name.endswith(_PARTIAL) or name in _NOT_IMAGES:
                continue
            with suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    found |= _scan(entry.path)
                elif entry.is_file():
                    found[entry.path] = _signature(entry.stat())
    return found


def _signature(status: os.stat_result) -> _Signature:
    return status.st_mtime_ns, status.st_size, status.st_ino
