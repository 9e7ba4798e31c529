"""The one trust: a release repository as it is at one place, believed only by the pinned root (TUF).

python-tuf refuses what is altered, unsigned, mixed, expired or older than what its cache has seen. The cache
can be lost; the floor, a file of our own, cannot go back either.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

from pydantic import Field
from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root, TargetFile, Targets
from tuf.ngclient import FetcherInterface, Updater

from edge.errors import BadInputError, ScanwrightError
from edge.files import write_durably
from edge.schema import Contract, read
from edge.update.fetch import FolderFetcher, WebFetcher
from edge.update.release import RefusedError, Release, release_of

__all__ = ["Repository", "Trust"]

_ROLES = ("root", "timestamp", "snapshot", "targets")
_Count = Annotated[int, Field(ge=0)]


class _Floor(Contract):
    """``floor.json``: of each role the newest version that this device has believed, and whose it was."""

    schema_version: int = 1
    versions: dict[str, _Count] = {}
    keys: dict[str, tuple[str, ...]] = {}


class Trust:
    """What a device keeps to tell releases from anything else: the pinned root, a cache, and the floor."""

    def __init__(
        self,
        folder: Path,
        root: Path,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        tls: ssl.SSLContext | None = None,
        charge: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``folder`` is the device's; ``now`` a time that has certainly come (a clock, or its floor);
        ``charge`` hears of bytes before they come over a link, and may refuse by an error.

        Raises:
            BadInputError: the pinned root or the floor cannot be read.
        """
        self.folder, self.now, self._tls, self._charge = folder, now, tls, charge
        try:
            self.root = root.read_bytes()
            Metadata.from_bytes(self.root)
        except OSError as error:
            raise BadInputError(f"{root}: the pinned root cannot be read ({error.strerror})") from error
        except RepositoryError as error:
            raise BadInputError(f"{root}: is no root.json of a release repository") from error
        self._path = folder / "floor.json"
        self._floor = read(self._path, _Floor) if self._path.exists() else _Floor()

    def repository(self, place: str) -> Repository:
        """The repository at a folder or URL, refreshed and checked.

        Raises:
            RefusedError: it is not to be believed, or not to be had (``unreachable``).
        """
        return Repository(place, self, self.fetcher(place))

    def fetcher(self, place: str) -> FetcherInterface:
        """What reads files there."""
        if "://" in place:
            return WebFetcher(self.folder / "partial", self._tls, self._charge)
        return FolderFetcher()

    def check(self, place: str, root: Root, versions: dict[str, int]) -> None:
        """Raise the floor to these versions, on the disk when this returns.

        A newer root that gives a role other keys frees its floor: who had stolen the old key may have signed
        a version beyond all to come.

        Raises:
            RefusedError: a version is below the floor.
            ScanwrightError: it cannot be written.
        """
        keys = {role: tuple(sorted(root.roles[role].keyids)) for role in _ROLES}
        newer = versions["root"] > self._floor.versions.get("root", 0)
        for role in _ROLES:
            known = self._floor.versions.get(role, 0)
            freed = newer and role != "root" and keys[role] != self._floor.keys.get(role)
            if versions[role] < known and not freed:
                raise RefusedError(
                    "rolled_back",
                    f"{place}: {role} {versions[role]} is older than {known}, which this device has seen",
                )
        raised = _Floor(versions=versions, keys=keys)
        if raised != self._floor:
            try:
                write_durably(self._path, raised.model_dump_json().encode())
            except OSError as error:
                raise ScanwrightError(f"{self._path}: cannot be written ({error.strerror})") from error
            self._floor = raised


class Repository:
    """The repository at one place. ``releases`` are those that a device can understand."""

    def __init__(self, place: str, trust: Trust, fetcher: FetcherInterface) -> None:
        """See :meth:`Trust.repository`."""
        self.place = place
        base = place.rstrip("/")
        cache = trust.folder / "tuf"
        with _named(place):
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._updater = Updater(
                str(cache), f"{base}/metadata/", None, f"{base}/targets/", fetcher, bootstrap=trust.root
            )
            # python-tuf asks the system's clock; one that stands still would make valid what has run out.
            self._updater._trusted_set.reference_time = trust.now()
            self._updater.refresh()
            signed = {role: Metadata.from_file(str(cache / f"{role}.json")).signed for role in _ROLES}
            root, listed = signed["root"], signed["targets"]
            assert isinstance(root, Root) and isinstance(listed, Targets)
            trust.check(place, root, {role: said.version for role, said in signed.items()})
            self._targets: dict[str, TargetFile] = {}
            for path in listed.targets:
                if (found := self._updater.get_targetinfo(path)) is not None:
                    self._targets[path] = found

    def releases(self) -> Iterator[Release]:
        """All that it offers; what is not understood, perhaps for later agents, is left out."""
        for path, target in self._targets.items():
            try:
                yield release_of(path, target.length, target.hashes, target.custom)
            except RefusedError:
                continue

    def download(self, release: Release, path: Path) -> None:
        """Put a release's file at ``path``, whole and checked.

        Raises:
            RefusedError: what comes is not the release, or nothing comes.
        """
        with _named(f"{self.place}: {release.path}"):
            self._updater.download_target(self._targets[release.path], str(path))


@contextmanager
def _named(place: str) -> Iterator[None]:
    """What python-tuf raises, said in one line and with a code."""
    try:
        yield
    except UnsignedMetadataError as error:
        raise RefusedError("unknown_key", f"{place}: not signed by enough of the keys in force") from error
    except BadVersionNumberError as error:
        raise RefusedError(
            "rolled_back", f"{place}: older than what this device has seen ({error})"
        ) from error
    except ExpiredMetadataError as error:
        raise RefusedError("expired", f"{place}: {error}; publish again, or check the clock") from error
    except LengthOrHashMismatchError as error:
        raise RefusedError("altered", f"{place}: not what was signed; altered, damaged or mixed") from error
    except DownloadLengthMismatchError as error:
        raise RefusedError("too_large", f"{place}: more bytes than it may have; not taken further") from error
    except DownloadError as error:
        raise RefusedError("unreachable", f"{place}: cannot be read ({error})") from error
    except RepositoryError as error:
        raise RefusedError(
            "altered", f"{place}: no release repository, or a damaged one ({error})"
        ) from error
    except OSError as error:
        raise RefusedError("no_room", f"{place}: cannot be kept here ({error.strerror or error})") from error
