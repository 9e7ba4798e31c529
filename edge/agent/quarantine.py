"""The quarantine: files that gave no frame, kept on the device with the reason."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from edge.sources.base import Failure

__all__ = ["Quarantine"]


class Quarantine:
    """A folder with, for each failure, the file under the failure's id and ``<id>.json`` that says why.

    The JSON names the original path and the decoder's words, which may identify a patient: like the file, it
    stays on the device. Keeping comes before the failure is told, releasing the original after: a kill in
    between loses neither.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder

    def keep(self, id_: str, failure: Failure, at: str) -> None:
        """Keep the failure's file, if it has one, and the reason; again for the same id changes nothing.

        Raises:
            OSError: the file cannot be read, or the disk is full.
        """
        if failure.path is not None:
            kept = self._folder / (id_ + failure.path.suffix.lower())
            if not kept.exists():
                partial = self._folder / f"{id_}.part"
                with failure.path.open("rb") as source, partial.open("wb") as target:
                    shutil.copyfileobj(source, target)
                    target.flush()
                    os.fsync(target.fileno())
                partial.replace(kept)
        why = {
            "at": at,
            "source": failure.source,
            "reason": failure.reason.value,
            "message": failure.message,
            "path": None if failure.path is None else str(failure.path),
        }
        (self._folder / f"{id_}.json").write_text(json.dumps(why, indent=1), encoding="utf-8")

    def release(self, failure: Failure) -> bool:
        """Remove the original of a kept file; False where its folder does not allow that: it stays then."""
        try:
            if failure.path is not None:
                failure.path.unlink(missing_ok=True)
        except OSError:
            return False
        return True
