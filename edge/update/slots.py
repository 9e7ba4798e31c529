"""Slots: versions of a bundle, or of the agent, beside each other; one rename decides which is used.

    FOLDER/NAME/state.json                           what is used (see edge.update.launch)
    FOLDER/NAME/versions/VERSION-HASH/release.json   what the repository said of it
                                     /bundle.swb     or the files of an agent package

A version is written under another name, read back and checked before its folder gets its own name, and only
then can the state name it. Whatever is interrupted in the middle, the state names complete versions.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from edge.errors import BadInputError, ScanwrightError
from edge.files import sha256_on_disk, sync, sync_folder, write_durably
from edge.schema import read
from edge.update.launch import VERSIONS, State, read_state, write_state
from edge.update.package import unpack_agent, verify_agent
from edge.update.release import RefusedError, Release, number

__all__ = ["BUNDLE", "Slot"]

BUNDLE, _PACKAGE, _RELEASE = "bundle.swb", "agent.swa", "release.json"


class Slot:
    """One slot. ``state`` is what is in force; only this object's methods change it."""

    def __init__(self, folder: Path, name: str) -> None:
        """``folder`` holds all slots; it is made if need be.

        Raises:
            ScanwrightError: it cannot be made or read.
        """
        self.name, self.folder = name, folder / name
        self._versions = self.folder / VERSIONS
        try:
            self._versions.mkdir(mode=0o755, parents=True, exist_ok=True)
            self.state = read_state(self.folder)
        except OSError as error:
            raise ScanwrightError(f"{error.filename}: cannot be used ({error.strerror})") from error
        except ValueError:  # the disk's doing; what is whole is used
            self.state = State(current=self._newest())

    def path(self, version: str) -> Path:
        """The folder of one of the versions."""
        return self._versions / version

    def release(self, version: str) -> Release:
        """What the repository said of one of the versions.

        Raises:
            BadInputError: that is damaged.
        """
        return read(self.path(version) / _RELEASE, Release)

    def install(self, release: Release, download: Callable[[Path], None]) -> str:
        """Put a release beside the others, complete and read back, and change nothing else; its name.

        Raises:
            RefusedError: it is not what was signed, is damaged on the disk, or there is no room for it.
        """
        name = f"{release.custom.version}-{release.sha256[:12]}"
        final, new = self.path(name), self._versions / f".{name}.new"
        try:
            self._prune(keep=name)
            if final.exists():
                if self.whole(name):
                    return name
                shutil.rmtree(final)
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(mode=0o755)
            if release.custom.kind == "agent":
                package = self.folder / _PACKAGE
                download(package)
                new.rmdir()
                unpack_agent(package, new)
                package.unlink()
            else:
                download(new / BUNDLE)
                sync(new / BUNDLE)
            write_durably(new / _RELEASE, release.model_dump_json().encode(), 0o644)
            sync_folder(new)
            new.replace(final)
            sync_folder(self._versions)
        except OSError as error:
            raise RefusedError("no_room", f"{self.folder}: cannot be written ({error.strerror})") from error
        except BadInputError as error:
            raise RefusedError("unusable", str(error)) from error
        if not self.whole(name):
            raise RefusedError(
                "damaged", f"{final}: the disk does not give back what was written; replace it"
            )
        return name

    def whole(self, version: str) -> bool:
        """Whether a version is on the disk, byte for byte."""
        try:
            release = self.release(version)
            if release.custom.kind == "bundle":
                return sha256_on_disk(self.path(version) / BUNDLE) == release.sha256
            return verify_agent(self.path(version)).version == release.custom.version
        except (BadInputError, OSError):
            return False

    def put(self, state: State) -> None:
        """Put a state in force, on the disk when this returns.

        Raises:
            ScanwrightError: it cannot be written; the one before stays in force.
        """
        if state == self.state:
            return
        try:
            write_state(self.folder, state)
        except OSError as error:
            raise ScanwrightError(f"{self.folder}: cannot be written ({error.strerror})") from error
        self.state = state

    def _prune(self, keep: str) -> None:
        """Remove what no state can name any more, but the version about to be installed."""
        for path in self._versions.iterdir():
            if path.name not in self.state.kept | {keep}:
                shutil.rmtree(path, ignore_errors=True)

    def _newest(self) -> str | None:
        named = [path.name for path in self._versions.iterdir() if not path.name.startswith(".")]
        return max(
            filter(self.whole, named),
            key=lambda version: number(self.release(version).custom.version),
            default=None,
        )
