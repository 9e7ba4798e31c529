"""What is on a courier's stick, and how it is read and written so that a pulled stick harms nothing.

    scanwright/delivery.json                          what headquarters sends, written last
    scanwright/repository/metadata/… and targets/…    the release repository, or a part of it
    scanwright/revoked/SITE.pem                       the site's revocation list
    scanwright/receipts/SITE/DEVICE.json              receipts of parcels
    scanwright/parcels/SITE/DEVICE/NUMBER-ID.age      what carts send, see edge.update.parcel

Nothing here is believed because it lies on a stick: the repository is signed, so is the revocation list, a
receipt proves that its writer read the parcel, and a parcel is sealed to headquarters and signed by its cart.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from edge.errors import BadInputError, ScanwrightError
from edge.files import sync_folder
from edge.schema import Contract, Name, parse

__all__ = [
    "DELIVERY",
    "FOLDER",
    "PARCELS",
    "RECEIPTS",
    "REPOSITORY",
    "REVOKED",
    "Delivery",
    "DeliveryFile",
    "Receipt",
    "Receipts",
    "StickError",
    "confirm",
    "confirms",
    "copy_checked",
    "open_below",
    "parcel_name",
    "read_delivery",
    "read_small",
    "write_whole",
]

FOLDER, DELIVERY = "scanwright", "delivery.json"
REPOSITORY, REVOKED, RECEIPTS, PARCELS = "repository", "revoked", "receipts", "parcels"
SMALL = 4 << 20
"""Bytes that a file which is read whole may have."""

_MOST_FILES = 2000
_LARGEST_FILE = 512 << 20
_LARGEST = 4 << 30
_PATH = re.compile(r"(?!\.)[A-Za-z0-9._-]+(/(?!\.)[A-Za-z0-9._-]+){0,3}")
_CART = r"^[a-z0-9-]{1,64}/[a-z0-9-]{1,64}$"
Cart = Annotated[str, StringConstraints(pattern=_CART)]
"""A cart as SITE/DEVICE."""

Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class StickError(ScanwrightError):
    """A stick is not taken, or could not be worked with; ``code`` says why, for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class DeliveryFile(Contract):
    """One file of a delivery, as it has to be."""

    size: Annotated[int, Field(ge=0, le=_LARGEST_FILE)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Delivery(Contract):
    """``delivery.json``: what headquarters put on the stick, and for whom. It is written last; the hashes
    tell a whole delivery from a broken one, and are no proof of origin."""

    schema_version: Literal[1] = 1
    made: AwareDatetime
    headquarters: Annotated[str, StringConstraints(pattern=r"^age1[a-z0-9]{50,70}$")] = Field(
        description="the public key that parcels are sealed to"
    )
    carts: Annotated[tuple[Cart, ...], Field(max_length=10_000)] = ()
    files: Annotated[dict[str, DeliveryFile], Field(max_length=_MOST_FILES)] = {}


class Receipt(Contract):
    """That a parcel has arrived: all of it but the messages that headquarters ``refused`` (their ids).

    ``proof`` is HMAC-SHA256 (RFC 2104) over both, with the parcel's own token as the key: only who opened the
    parcel knows that.
    """

    parcel: Id
    refused: Annotated[tuple[Annotated[str, Field(max_length=80)], ...], Field(max_length=10_000)] = ()
    proof: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Receipts(Contract):
    """``receipts/SITE/DEVICE.json``."""

    schema_version: Literal[1] = 1
    site: Name
    device: Name
    receipts: Annotated[tuple[Receipt, ...], Field(max_length=10_000)] = ()


def confirm(parcel: str, refused: Sequence[str], token: bytes) -> Receipt:
    """The receipt of a parcel, by who has read its ``token``."""
    return Receipt(parcel=parcel, refused=tuple(refused), proof=_proof(parcel, refused, token))


def confirms(receipt: Receipt, token: bytes) -> bool:
    """Whether a receipt was made by who has read the parcel."""
    return hmac.compare_digest(receipt.proof, _proof(receipt.parcel, receipt.refused, token))


def _proof(parcel: str, refused: Sequence[str], token: bytes) -> str:
    said = "\n".join(["scanwright receipt 1", parcel, *refused])
    return hmac.new(token, said.encode(), hashlib.sha256).hexdigest()


def parcel_name(number: int, id_: str) -> str:
    """File name of a parcel: a cart's later ones sort behind its earlier ones."""
    return f"{number:08d}-{id_}.age"


def read_delivery(stick: Path) -> Delivery | None:
    """What a stick brings, from its ``scanwright`` folder; None if headquarters put nothing on it.

    Raises:
        StickError: there is something that is no delivery, or not a whole one.
    """
    try:
        text = read_small(stick, DELIVERY)
    except FileNotFoundError:
        return None
    try:
        delivery = parse(text, Delivery, DELIVERY)
    except BadInputError as error:
        raise StickError("damaged", f"{DELIVERY}: no delivery of headquarters, or a damaged one") from error
    if wrong := next((name for name in delivery.files if not _PATH.fullmatch(name)), None):
        raise StickError("damaged", f"{DELIVERY}: names a file that no stick has: {wrong[:80]!r}")
    if sum(file.size for file in delivery.files.values()) > _LARGEST:
        raise StickError("damaged", f"{DELIVERY}: names more than {_LARGEST >> 30} GiB")
    return delivery


@contextmanager
def open_below(folder: Path, name: str) -> Iterator[BinaryIO]:
    """Open a regular file below a folder, following no symbolic link on the way from there.

    Raises:
        OSError: it is not there, or the stick was pulled.
        StickError: a part of its path is a link, or it is no regular file.
    """
    parts = PurePosixPath(name).parts
    if not parts or any(part in ("..", "/") for part in parts):
        raise StickError("damaged", f"{name[:80]!r}: no path on a stick")
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            next_ = _open_at(part, os.O_RDONLY | os.O_DIRECTORY, at, name)
            os.close(at)
            at = next_
        file = _open_at(parts[-1], os.O_RDONLY | os.O_NONBLOCK, at, name)
    finally:
        os.close(at)
    with os.fdopen(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise StickError("damaged", f"{name}: no regular file")
        yield opened


def _open_at(part: str, flags: int, at: int, name: str) -> int:
    try:
        return os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    except OSError as error:
        mode = os.stat(part, dir_fd=at, follow_symlinks=False).st_mode if _exists(part, at) else 0
        if stat.S_ISLNK(mode):
            raise StickError("damaged", f"{name}: leads through a symbolic link") from error
        raise


def _exists(part: str, at: int) -> bool:
    try:
        os.stat(part, dir_fd=at, follow_symlinks=False)
    except OSError:
        return False
    return True


def read_small(folder: Path, name: str) -> bytes:
    """A file below a folder, whole.

    Raises:
        OSError: it is not there, or the stick was pulled.
        StickError: it is no regular file, or larger than 4 MiB.
    """
    with open_below(folder, name) as file:
        data = file.read(SMALL + 1)
    if len(data) > SMALL:
        raise StickError("damaged", f"{name}: larger than {SMALL >> 20} MiB")
    return data


def copy_checked(stick: Path, name: str, expected: DeliveryFile, target: Path) -> None:
    """Copy one file of a delivery to ``target``, on the disk when this returns.

    Raises:
        OSError: the stick was pulled, or the disk is full.
        StickError: it is not the file that the delivery names.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), expected.size + 1
    with open_below(stick, name) as source, target.open("wb") as copy:
        while left and (chunk := source.read(min(left, 1 << 20))):
            left -= len(chunk)
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    if left != 1 or digest.hexdigest() != expected.sha256:
        raise StickError("unfinished", f"{name}: is not as it was written; write the stick again")


def write_whole(source: BinaryIO, target: Path) -> None:
    """Put what ``source`` holds at ``target``: whole and on the medium, or not there.

    Raises:
        OSError: it was pulled, or is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f".{target.name}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fsync(descriptor)
        new.replace(target)
        sync_folder(target.parent)
    except OSError:
        with suppress(OSError):  # pulled; the next time removes it
            new.unlink(missing_ok=True)
        raise
