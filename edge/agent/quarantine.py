"""The quarantine: files that gave no frame, kept sealed on the device with the reason."""

from __future__ import annotations

import base64
import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.agent.room import NoRoomError
from edge.agent.vault import Vault
from edge.bundle.reasons import Reason
from edge.files import sync_folder, write_durably
from edge.sources.base import Failure

__all__ = ["Quarantine", "Quarantined"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Quarantined:
    """A failure that is kept. ``message`` and ``path`` may identify a patient; ``path`` may be ""."""

    id: str
    at: str
    source: str
    reason: Reason
    message: str
    path: str


class Quarantine:
    """A folder with ``<id>.json`` for each failure and, sealed, the file it is about as ``<id>.sealed``.

    The JSON says in clear when, from where and why; the original path and the decoder's words, which may
    identify a patient, are sealed in it. Keeping comes before the failure is told, releasing the original
    after: a kill in between loses neither.
    """

    def __init__(self, folder: Path, vault: Vault) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder, self._vault = folder, vault

    def keep(self, id_: str, failure: Failure, at: str) -> None:
        """Keep the failure's file, if it has one, and the reason; again for the same id changes nothing.

        Raises:
            OSError: the file cannot be read, or the disk fails.
            NoRoomError: the disk is full or read-only.
        """
        try:
            self._keep(id_, failure, at)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise NoRoomError(error.errno, error.strerror) from error
            raise

    def _keep(self, id_: str, failure: Failure, at: str) -> None:
        kept = self._sealed(id_)
        if failure.path is not None and not kept.exists():
            partial = self._folder / f"{id_}.part"
            with failure.path.open("rb") as source, partial.open("wb") as target:
                self._vault.seal_stream(source, target, f"quarantine:{id_}")
                target.flush()
                os.fsync(target.fileno())
            partial.replace(kept)
            sync_folder(self._folder)
        told = {"message": failure.message, "path": "" if failure.path is None else str(failure.path)}
        sealed = self._vault.seal(json.dumps(told).encode(), f"quarantine:{id_}")
        why = {
            "at": at,
            "source": failure.source,
            "reason": failure.reason.value,
            "sealed": base64.b64encode(sealed).decode("ascii"),
        }
        write_durably(self._folder / f"{id_}.json", json.dumps(why, indent=1).encode())

    def release(self, failure: Failure) -> bool:
        """Remove the original of a kept file; False where its folder does not allow that: it stays then."""
        try:
            if failure.path is not None:
                failure.path.unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def kept(self) -> Iterator[Quarantined]:
        """All that is kept, by id.

        Raises:
            VaultError: it was sealed with another key.
        """
        for path in sorted(self._folder.glob("*.json")):
            why = json.loads(path.read_text(encoding="utf-8"))
            sealed = base64.b64decode(why["sealed"])
            told = json.loads(self._vault.open(sealed, f"quarantine:{path.stem}"))
            yield Quarantined(path.stem, why["at"], why["source"], Reason(why["reason"]), **told)

    def export(self, entry: Quarantined, folder: Path) -> Path:
        """Write a kept file in clear, as it came, into ``folder``.

        Raises:
            OSError: it cannot be read or written.
            VaultError: it is damaged.
        """
        target = folder / (entry.id + Path(entry.path).suffix.lower())
        with self._sealed(entry.id).open("rb") as source, target.open("wb") as file:
            file.writelines(self._vault.open_stream(source, f"quarantine:{entry.id}"))
        return target

    def _sealed(self, id_: str) -> Path:
        return self._folder / f"{id_}.sealed"
