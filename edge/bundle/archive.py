"""The bundle file: a ZIP of fixed members, reproducible to the byte and checked to the last one."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge.bundle.errors import BundleError
from edge.bundle.manifest import Manifest
from edge.errors import BadInputError
from edge.schema import parse

__all__ = ["MEMBERS", "Bundle", "BundleError", "bundle_file_name", "open_bundle", "write_bundle"]

MANIFEST = "manifest.json"
_MIB = 1 << 20
MEMBERS = {
    MANIFEST: 16 * _MIB,
    "model.tflite": 256 * _MIB,
    "labels.txt": _MIB,
    "golden.npz": 32 * _MIB,
    "ood.npz": 32 * _MIB,
    "model.onnx": 256 * _MIB,
    "mediapipe.tflite": 256 * _MIB,
    "MODEL_CARD.md": _MIB,
    "sbom.cdx.json": 4 * _MIB,
    "SHA256SUMS": _MIB,
}
"""Every member that a bundle may have, in the order of the file, with its largest size in bytes."""

_OPTIONAL = {"ood.npz", "model.onnx", "mediapipe.tflite", "SHA256SUMS"}
_LARGEST_FILE = 320 * _MIB
_STRUCTURE = "archive structure"
# The ZIP comment holds the SHA-256 of every byte before it: bytes that no member's hash covers (headers,
# unused bits at the end of a deflate stream) cannot change unnoticed either, whatever zlib packed them.
_SEAL = b"scanwright bundle sha256:"
_SEAL_LENGTH = len(_SEAL) + 64
# What zipfile and zlib raise on damaged input: bad headers, encryption flags, names that are no UTF-8.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: every member read, and found to be what the manifest says.

    ``sha256`` and ``size`` (bytes) are the whole file's.
    """

    path: Path
    manifest: Manifest
    sha256: str
    size: int
    _members: Mapping[str, bytes] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members, in the order of the file."""
        return tuple(self._members)

    def member(self, name: str) -> bytes:
        """A member's bytes.

        Raises:
            BundleError: the bundle has no such member.
        """
        if name not in self._members:
            raise BundleError(f"{self.path}: has no member '{name}'")
        return self._members[name]


def bundle_file_name(manifest: Manifest) -> str:
    """``NAME-VERSION-TARGET.swb``."""
    return f"{manifest.name}-{manifest.version}-{manifest.target}.swb"


def write_bundle(path: Path, manifest: Manifest, members: Mapping[str, bytes]) -> Path:
    """Write a bundle, all or nothing; the same manifest and members give the same bytes.

    Args:
        path: the file; its folder is made where missing.
        manifest: its ``members`` are filled in here.
        members: all members but the manifest, by the names of :data:`MEMBERS`.

    Raises:
        BundleError: a member is unknown, missing or too large.
    """
    _check_names(str(path), [MANIFEST, *members])
    hashes = {name: hashlib.sha256(members[name]).hexdigest() for name in MEMBERS if name in members}
    complete = manifest.model_copy(update={"members": hashes})
    contents = {MANIFEST: complete.model_dump_json(indent=1).encode() + b"\n", **members}
    for name, data in contents.items():
        if len(data) > MEMBERS[name]:
            raise BundleError(f"{path}: member '{name}' is larger than {MEMBERS[name] // _MIB} MiB")
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_durably(path, _pack(contents))
    return path


def open_bundle(path: Path) -> Bundle:
    """Read a bundle and check all of it.

    Raises:
        BundleError: the file is missing, no bundle, or changed in any byte; the message names the member
            that is damaged, or the archive structure.
    """
    data = _read(path)
    sealed = len(data) > _SEAL_LENGTH and data[-_SEAL_LENGTH:-64] == _SEAL
    if not sealed or data[-64:] != hashlib.sha256(data[:-64]).hexdigest().encode():
        raise _damaged(path, _blame(data))
    members = _unpack(path, data)
    try:
        manifest = parse(members[MANIFEST], Manifest, f"{path}: {MANIFEST}")
    except BadInputError as error:
        raise BundleError(str(error)) from error
    if set(manifest.members) != set(members) - {MANIFEST}:
        raise BundleError(f"{path}: the manifest names other members than the bundle holds")
    for name, expected in manifest.members.items():
        if hashlib.sha256(members[name]).hexdigest() != expected:
            raise BundleError(
                f"{path}: member '{name}' is not the one that the manifest names (SHA-256 differs)"
            )
    if manifest.decision.ood and "ood.npz" not in members:
        raise BundleError(f"{path}: the manifest has an out-of-distribution limit but there is no 'ood.npz'")
    return Bundle(path, manifest, hashlib.sha256(data).hexdigest(), len(data), members)


def _pack(contents: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in MEMBERS:
            if name in contents:
                info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                info.create_system = 3
                info.external_attr = 0o100644 << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, contents[name], compresslevel=9)
        archive.comment = _SEAL + b"0" * 64
    data = buffer.getvalue()[:-64]
    return data + hashlib.sha256(data).hexdigest().encode()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > _LARGEST_FILE:
        raise BundleError(f"{path}: not a bundle (larger than {_LARGEST_FILE // _MIB} MiB)")
    if not data:
        raise BundleError(f"{path}: not a bundle (the file is empty)")
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise BundleError(f"{path}: not a bundle, or cut short or changed ({_STRUCTURE}); get the file again")
    return data


def _unpack(path: Path, data: bytes) -> dict[str, bytes]:
    """The members of a sealed file; sizes are checked before anything is unpacked."""
    members: dict[str, bytes] = {}
    name = _STRUCTURE
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            _check_names(str(path), [info.filename for info in infos])
            for info in infos:
                name = info.filename
                if info.file_size > MEMBERS[name]:
                    raise BundleError(f"{path}: member '{name}' is larger than {MEMBERS[name] // _MIB} MiB")
                # Reads no more than file_size bytes, and checks the CRC.
                members[name] = archive.read(info)
    except _DAMAGE as error:
        raise _damaged(path, name) from error
    return members


def _check_names(origin: str, names: list[str]) -> None:
    for name in names:
        if name not in MEMBERS:
            raise BundleError(f"{origin}: '{name}' is no member of a bundle")
        if names.count(name) > 1:
            raise BundleError(f"{origin}: member '{name}' stands twice")
    missing = [name for name in MEMBERS if name not in names and name not in _OPTIONAL]
    if missing:
        raise BundleError(f"{origin}: member '{missing[0]}' is missing")


def _blame(data: bytes) -> str:
    """Name of the first member that cannot be read; where all can, the archive's structure is at fault."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                if info.filename in MEMBERS and not _readable(archive, info):
                    return info.filename
    except _DAMAGE:
        pass
    return _STRUCTURE


def _readable(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bool:
    if info.file_size > MEMBERS[info.filename]:
        return False
    try:
        archive.read(info)
    except _DAMAGE:
        return False
    return True


def _damaged(path: Path, what: str) -> BundleError:
    what = what if what == _STRUCTURE else f"member '{what}'"
    return BundleError(f"{path}: {what} is damaged or changed; the bundle is refused, get the file again")


def _write_durably(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
