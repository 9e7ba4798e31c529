"""What headquarters puts on a stick for carts: a part of the release repository, revocations, receipts."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from cryptography import x509
from cryptography.x509.oid import NameOID
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

from edge.errors import BadInputError, ScanwrightError
from edge.files import sync_folder
from edge.schema import is_name, read
from edge.update.courier import (
    DELIVERY,
    FOLDER,
    RECEIPTS,
    REPOSITORY,
    REVOKED,
    Delivery,
    DeliveryFile,
    Receipt,
    Receipts,
    write_whole,
)
from edge.update.release import RefusedError, Release, number, release_of

__all__ = ["Load", "deliver", "needed"]

_RECEIPTS = 100  # the newest of a cart; it remembers fewer parcels


@dataclass(frozen=True)
class Load:
    """What is to be carried: for which carts (SITE/DEVICE), and from where. ``receipts`` is the folder that
    :func:`edge.monitor.courier.import_stick` keeps them in."""

    carts: Sequence[str]
    repository: Path | None = None
    revoked: Sequence[Path] = ()
    receipts: Path | None = None


def deliver(stick: Path, headquarters: str, load: Load, now: datetime) -> Delivery:
    """Write a stick; what lies there of an earlier delivery is replaced, parcels stay.

    ``delivery.json`` goes first and comes last, so that a stick which is pulled meanwhile is told from one
    that is whole.

    Raises:
        BadInputError: a cart, the repository or a revocation list is none.
        ScanwrightError: the stick is full, write-protected or pulled.
    """
    for cart in load.carts:
        site, _, device = cart.partition("/")
        if not is_name(site) or not is_name(device):
            raise BadInputError(f"--carts {cart}: give SITE/DEVICE, several separated by commas")
    files = dict(_files(load))
    root = stick / FOLDER
    if root.is_symlink():
        raise BadInputError(f"{root}: is a symbolic link; take another stick")
    try:
        if not stick.is_dir():
            raise BadInputError(f"{stick}: no such folder; mount the stick first")
        (root / DELIVERY).unlink(missing_ok=True)
        if root.is_dir():
            sync_folder(root)
        for name in (REPOSITORY, REVOKED, RECEIPTS):
            shutil.rmtree(root / name, ignore_errors=True)
        listed = {}
        for name, source in sorted(files.items()):
            with source.open("rb") if isinstance(source, Path) else BytesIO(source) as data:
                write_whole(data, root / name)
                data.seek(0)
                digest = _digest(data)
                listed[name] = DeliveryFile(size=data.tell(), sha256=digest)
        delivery = Delivery(made=now, headquarters=headquarters, carts=tuple(load.carts), files=listed)
        write_whole(BytesIO(delivery.model_dump_json(indent=1).encode()), root / DELIVERY)
    except OSError as error:
        raise ScanwrightError(
            f"{stick}: cannot be written ({error.strerror}); the stick is not to be used as it is"
        ) from error
    return delivery


def _files(load: Load) -> Iterator[tuple[str, Path | bytes]]:
    if load.repository is not None:
        for path in needed(load.repository, load.carts):
            yield f"{REPOSITORY}/{path.relative_to(load.repository).as_posix()}", path
    for path in load.revoked:
        yield f"{REVOKED}/{_site_of(path)}.pem", path
    for cart in load.carts if load.receipts else ():
        site, device = cart.split("/")
        assert load.receipts
        found = sorted((load.receipts / site / device).glob("*.json"))[-_RECEIPTS:]
        if found:
            receipts = tuple(read(path, Receipt) for path in found)
            text = Receipts(site=site, device=device, receipts=receipts).model_dump_json()
            yield f"{RECEIPTS}/{site}/{device}.json", text.encode()


def needed(repository: Path, carts: Sequence[str]) -> list[Path]:
    """The files of a repository that these carts need: what is signed, and of every name and board the newest
    that is meant for one of them.

    Raises:
        BadInputError: it is no release repository, or damaged.
    """
    metadata = repository / "metadata"
    try:
        timestamp = Metadata[Timestamp].from_bytes((metadata / "timestamp.json").read_bytes()).signed
        snapshot = metadata / f"{timestamp.snapshot_meta.version}.snapshot.json"
        version = Metadata[Snapshot].from_bytes(snapshot.read_bytes()).signed.meta["targets.json"].version
        targets = metadata / f"{version}.targets.json"
        listed = Metadata[Targets].from_bytes(targets.read_bytes()).signed.targets
    except (RepositoryError, OSError, KeyError) as error:
        raise BadInputError(
            f"{repository}: no release repository, or a damaged one; make it with 'scanwright publish'"
        ) from error
    newest: dict[tuple[str, str | None, str], Release] = {}
    for path, target in listed.items():
        try:
            release = release_of(path, target.length, target.hashes, target.custom)
        except RefusedError:
            continue
        said = release.custom
        for cart in carts:
            if (said.sites and cart.split("/")[0] not in said.sites) or (
                said.devices and cart not in said.devices
            ):
                continue
            key = (said.name, said.target, cart)
            if key not in newest or number(said.version) > number(newest[key].custom.version):
                newest[key] = release
    wanted = {f"{release.sha256}.{release.path}" for release in newest.values()}
    files = [*sorted(metadata.glob("*.root.json")), targets, snapshot, metadata / "timestamp.json"]
    return files + [repository / "targets" / name for name in sorted(wanted)]


def _site_of(path: Path) -> str:
    try:
        crl = x509.load_pem_x509_crl(path.read_bytes())
        site = str(crl.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value)
    except (OSError, ValueError, IndexError) as error:
        raise BadInputError(f"--crl {path}: no revocation list of a site that can be read") from error
    if not is_name(site):
        raise BadInputError(f"--crl {path}: names no site")
    return site


def _digest(data: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := data.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
