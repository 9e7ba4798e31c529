"""The agent as a package: one file, reproducible to the byte, unpacked only to what its manifest names."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from edge.bundle.manifest import Sha256, Version
from edge.errors import BadInputError
from edge.files import sha256_on_disk, sync, write_durably
from edge.schema import Contract, Name, parse

__all__ = ["PROGRAM", "AgentManifest", "pack_agent", "read_agent", "unpack_agent", "verify_agent"]

MANIFEST = "agent.json"
PROGRAM = "bin/scanwright"
"""What the launcher starts, with ``agent run``."""

_MIB = 1 << 20
_LARGEST, _MOST = 256 * _MIB, 1024 * _MIB  # bytes of one file, and of all
_FILES = 50_000
_MANIFEST_BYTES = 16 * _MIB
_DAMAGE = (tarfile.TarError, lzma.LZMAError, EOFError, OSError, ValueError)


class AgentFile(Contract):
    """One file of the package."""

    sha256: Sha256
    size: Annotated[int, Field(ge=0, le=_LARGEST)]
    executable: bool = False


class AgentManifest(Contract):
    """``agent.json``: the first member of the package."""

    schema_version: Literal[1] = 1
    version: Version
    target: Name | None = Field(default=None, description="the board; null is any")
    files: dict[str, AgentFile]


def pack_agent(tree: Path, version: str, target: str | None, out: Path) -> Path:
    """Make ``agent-VERSION-TARGET.swa`` in ``out`` of a folder that holds ``bin/scanwright``; the same files
    give the same bytes.

    Raises:
        BadInputError: the program is missing, something is no regular file, or too large.
    """
    files, contents = {}, {}
    for path in sorted(tree.rglob("*")):
        name = path.relative_to(tree).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise BadInputError(f"{path}: an agent package holds regular files only")
        if path.is_file() and "__pycache__" not in path.parts:
            data = contents[name] = path.read_bytes()
            files[name] = {
                "sha256": hashlib.sha256(data).hexdigest(),
                "size": len(data),
                "executable": os.access(path, os.X_OK),
            }
    said = {"version": version, "target": target, "files": files}
    manifest = AgentManifest.model_validate(said)
    _check(manifest, str(tree))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, MANIFEST, manifest.model_dump_json().encode(), executable=False)
        for name, file in manifest.files.items():
            _add(archive, name, contents[name], file.executable)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"agent-{version}-{target or 'any'}.swa"
    write_durably(path, buffer.getvalue(), 0o644)
    return path


def read_agent(path: Path) -> AgentManifest:
    """The manifest of a package.

    Raises:
        BadInputError: it is no package, or a damaged one.
    """
    try:
        with tarfile.open(path, "r:xz") as archive:
            return _manifest(archive, path)
    except _DAMAGE as error:
        raise BadInputError(f"{path}: no agent package, or a damaged one") from error


def unpack_agent(path: Path, folder: Path) -> AgentManifest:
    """Unpack a package into a new folder, every file and name on the disk when this returns.

    Raises:
        BadInputError: it is damaged, or holds something else than its manifest says.
        OSError: the folder cannot be written.
    """
    folder.mkdir(mode=0o755)
    try:
        with tarfile.open(path, "r:xz") as archive:
            manifest = _manifest(archive, path)
            missing = set(manifest.files)
            while member := archive.next():
                file = manifest.files.get(member.name)
                source = archive.extractfile(member) if file and member.isreg() else None
                if file is None or source is None or member.size != file.size:
                    raise BadInputError(f"{path}: '{member.name}' is not what the manifest says")
                data = source.read(file.size)
                if member.name not in missing or hashlib.sha256(data).hexdigest() != file.sha256:
                    raise BadInputError(f"{path}: '{member.name}' stands twice, or is damaged")
                missing.remove(member.name)
                target = folder / member.name
                target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                target.write_bytes(data)
                target.chmod(0o755 if file.executable else 0o644)
            if missing:
                raise BadInputError(f"{path}: '{min(missing)}' is missing")
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
        raise BadInputError(f"{path}: the agent package is damaged") from error
    write_durably(folder / MANIFEST, manifest.model_dump_json().encode(), 0o644)
    # All are written before the first is waited for: so the disk takes them together.
    for inner in [*(folder / name for name in manifest.files), *(p for p in folder.rglob("*") if p.is_dir())]:
        sync(inner)
    sync(folder)
    return manifest


def verify_agent(folder: Path) -> AgentManifest:
    """Whether an unpacked package is whole.

    Raises:
        BadInputError: a file is missing or was changed.
    """
    try:
        manifest = parse((folder / MANIFEST).read_bytes(), AgentManifest, f"{folder}: {MANIFEST}")
        for name, file in manifest.files.items():
            if sha256_on_disk(folder / name) != file.sha256:
                raise BadInputError(f"{folder / name}: was changed or is damaged")
    except OSError as error:
        raise BadInputError(f"{error.filename}: cannot be read ({error.strerror})") from error
    return manifest


def _manifest(archive: tarfile.TarFile, path: Path) -> AgentManifest:
    first = archive.next()
    source = archive.extractfile(first) if first and first.name == MANIFEST and first.isreg() else None
    if first is None or source is None or first.size > _MANIFEST_BYTES:
        raise BadInputError(f"{path}: no agent package ('{MANIFEST}' does not come first)")
    manifest = parse(source.read(first.size), AgentManifest, f"{path}: {MANIFEST}")
    _check(manifest, str(path))
    return manifest


def _check(manifest: AgentManifest, origin: str) -> None:
    program = manifest.files.get(PROGRAM)
    if program is None or not program.executable:
        raise BadInputError(f"{origin}: has no program '{PROGRAM}'")
    if len(manifest.files) > _FILES or sum(f.size for f in manifest.files.values()) > _MOST:
        raise BadInputError(f"{origin}: more than {_FILES} files or {_MOST // _MIB} MiB")
    for name in manifest.files:
        parts = PurePosixPath(name).parts
        if name == MANIFEST or not parts or "/".join(parts) != name or parts[0] == "/" or ".." in parts:
            raise BadInputError(f"{origin}: '{name}' is no name of a file inside the package")


def _add(archive: tarfile.TarFile, name: str, data: bytes, executable: bool) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o755 if executable else 0o644
    archive.addfile(info, io.BytesIO(data))
