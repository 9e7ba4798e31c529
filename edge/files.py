"""Small files that must be whole or not there, whatever happens while they are written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

__all__ = ["in_memory", "sha256_on_disk", "sync", "sync_folder", "write_durably"]

_MEMORY = "scanwright-memory"  # as firmware_configs/card/overlay-init calls it


def write_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put ``data`` in place of ``path`` by one rename, on the disk when this returns.

    Raises:
        OSError: the folder cannot be written, or the disk is full; what was there before stays.
    """
    new = path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
    sync_folder(path.parent)


def sync(path: Path) -> None:
    """Make the bytes of a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    sync(folder)


def sha256_on_disk(path: Path) -> str:
    """SHA-256 of a file as it lies on the disk: what is still in memory is not taken for it, where the system
    lets go of it.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def in_memory(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether what is written to a folder is gone with the power: below a card's root, which is read-only.

    That is where a state folder is if the card's data partition is not mounted. ``mounts`` as in proc(5).
    """
    place, held = folder.resolve(), ("", "")
    for line in mounts.read_text("utf-8", "replace").splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4]  # with octal escapes, which no folder of a card needs
        if place.is_relative_to(point) and len(point) >= len(held[0]):
            held = (point, after.split()[1])
    return held[1] == _MEMORY
