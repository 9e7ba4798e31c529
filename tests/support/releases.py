"""A release repository with its keys, as headquarters has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edge.keys.release import ReleaseKeys
from edge.keys.repository import described, publish_files

DAYS = 1000


class Releases:
    """Keys in ``FOLDER/keys``, the repository in ``FOLDER/repository``; ``root`` is what a cart pins."""

    def __init__(self, folder: Path, tiny_bundle: Callable[..., Path]) -> None:
        self.folder, self._bundle = folder, tiny_bundle
        self.repository, self.root = folder / "repository", folder / "keys/root.json"
        ReleaseKeys.create(folder / "keys", None, 3, 2)

    @property
    def keys(self) -> ReleaseKeys:
        return ReleaseKeys(self.folder / "keys")

    def publish(
        self, *files: Path, sites: Sequence[str] = (), devices: Sequence[str] = (), days: int = DAYS
    ) -> list[str]:
        found = {path: described(path, sites, devices) for path in files}
        return publish_files(self.repository, self.keys, None, found, days)

    def bundle(self, version: str, **changes: object) -> Path:
        """The tiny bundle in another version, published."""
        path = self._bundle(self.folder / f"tiny-{version}.swb", version=version, **changes)
        self.publish(path)
        return path

    def files(self) -> dict[str, bytes]:
        """The repository in memory, by paths."""
        found = (path for path in self.repository.rglob("*") if path.is_file())
        return {path.relative_to(self.repository).as_posix(): path.read_bytes() for path in found}
