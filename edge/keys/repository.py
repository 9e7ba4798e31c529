"""The release repository: plain files that any web server, card or stick can carry (TUF 1.0)."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from edge.bundle.archive import bundle_file_name, open_bundle
from edge.errors import BadInputError
from edge.files import sync_folder, write_durably
from edge.keys.release import ROLES, ReleaseKeys
from edge.update.package import read_agent
from edge.update.release import LARGEST, Custom

__all__ = ["described", "publish_files"]

_Role = TypeVar("_Role", Targets, Snapshot, Timestamp)


def described(path: Path, sites: Sequence[str] = (), devices: Sequence[str] = ()) -> tuple[str, Custom]:
    """The name that a file has in the repository, and what is said of it there.

    Raises:
        BadInputError: it is neither a bundle nor an agent package, or damaged; a site or device is no name.
    """
    said: dict[str, object]
    if path.suffix == ".swa":
        agent = read_agent(path)
        said = {"kind": "agent", "name": "agent", "version": agent.version, "target": agent.target}
        name = f"agent-{agent.version}-{agent.target or 'any'}.swa"
    else:
        bundle = open_bundle(path).manifest
        if bundle.name == "agent":
            raise BadInputError(f"{path}: a bundle cannot be called 'agent'; package it under another name")
        said = {"kind": "bundle", "name": bundle.name, "version": bundle.version, "target": bundle.target}
        name = bundle_file_name(bundle)
    try:
        return name, Custom.model_validate(said | {"sites": tuple(sites), "devices": tuple(devices)})
    except ValidationError as error:
        raise BadInputError("--site is a name, --device is SITE/DEVICE") from error


def publish_files(
    repository: Path,
    keys: ReleaseKeys,
    passphrase: bytes | None,
    files: Mapping[Path, tuple[str, Custom]],
    days: int,
) -> list[str]:
    """Add files, and sign everything anew; what readers see changes all at once. Names of the files.

    Args:
        repository: its folder, made if need be.
        keys: with the keys of targets, snapshot and timestamp.
        passphrase: of the keys.
        files: as :func:`described` names them.
        days: until what is signed now runs out.

    Raises:
        BadInputError: another file of that name is there, the repository is of other keys, or one is missing.
    """
    signers = {role: keys.signers(role, passphrase) for role in ROLES}
    metadata = repository / "metadata"
    with _alone(repository):
        (repository / "targets").mkdir(exist_ok=True)
        metadata.mkdir(exist_ok=True)
        found = {role: _newest(metadata, keys, role) for role in ROLES}
        targets = found["targets"] or Targets()
        snapshot, timestamp = found["snapshot"] or Snapshot(), found["timestamp"] or Timestamp()
        assert isinstance(targets, Targets) and isinstance(snapshot, Snapshot)
        assert isinstance(timestamp, Timestamp)
        for path, (name, said) in files.items():
            _add(repository / "targets", targets, path, name, said)
        expires = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=days)
        for role, signed in (("targets", targets), ("snapshot", snapshot), ("timestamp", timestamp)):
            signed.version += 1 if found[role] else 0
            signed.expires = expires
        for name in keys.chain():
            _write(metadata / name, (keys.path / name).read_bytes())
        data = _sign(targets, signers["targets"])
        _write(metadata / f"{targets.version}.targets.json", data)
        snapshot.meta["targets.json"] = MetaFile.from_data(targets.version, data, ["sha256"])
        data = _sign(snapshot, signers["snapshot"])
        _write(metadata / f"{snapshot.version}.snapshot.json", data)
        timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, data, ["sha256"])
        # Readers begin here: with this one rename they see all of the above.
        write_durably(metadata / "timestamp.json", _sign(timestamp, signers["timestamp"]), 0o644)
    return [name for name, _ in files.values()]


def _add(folder: Path, targets: Targets, path: Path, name: str, said: Custom) -> None:
    largest = LARGEST[said.kind]
    if path.stat().st_size > largest:
        raise BadInputError(f"{path}: larger than {largest >> 20} MiB, which no device takes")
    target = TargetFile.from_file(name, str(path), ["sha256"])
    target.unrecognized_fields["custom"] = said.model_dump(mode="json")
    before = targets.targets.get(name)
    if before is not None and before.hashes != target.hashes:
        raise BadInputError(
            f"{name}: is in the repository with other contents; a changed file needs a new version"
        )
    targets.targets[name] = target
    kept = folder / f"{target.hashes['sha256']}.{name}"
    if not kept.exists():
        new = folder / f".{kept.name}.new"
        try:
            with path.open("rb") as source, new.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
            new.chmod(0o644)
            new.replace(kept)
        finally:
            new.unlink(missing_ok=True)  # on a full disk it would keep the room
        sync_folder(folder)


def _newest(metadata: Path, keys: ReleaseKeys, role: str) -> Targets | Snapshot | Timestamp | None:
    """What a role said last, which one of our roots must vouch for; None in a new repository."""
    numbered = metadata.glob(f"*.{role}.json") if role != "timestamp" else metadata.glob("timestamp.json")
    path = max(numbered, key=_number, default=None)
    if path is None:
        return None
    try:
        found: Metadata[Any] = Metadata.from_bytes(path.read_bytes())
    except (RepositoryError, OSError) as error:
        raise BadInputError(f"{path}: is damaged; restore the repository from a copy") from error
    for root in reversed(keys.roots):
        try:
            root.signed.verify_delegate(role, found.signed_bytes, found.signatures)
        except RepositoryError:
            continue
        signed: Targets | Snapshot | Timestamp = found.signed
        return signed
    raise BadInputError(f"{path}: signed by other keys than those in {keys.path}")


def _number(path: Path) -> int:
    head = path.name.partition(".")[0]
    return int(head) if head.isdigit() else 0


def _sign(signed: _Role, signers: Sequence[CryptoSigner]) -> bytes:
    metadata = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def _write(path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        write_durably(path, data, 0o644)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadInputError(f"{error.filename or folder}: cannot be written ({error.strerror})") from error
