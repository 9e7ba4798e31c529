"""File systems inside an image, without root or loop devices: FAT by mtools, ext4 by e2fsprogs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from edge.errors import BadInputError, ScanwrightError
from trainer.flashing.cart import Entry

__all__ = ["Ext4", "Fat", "make_ext4"]

_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class Fat:
    """A FAT file system at a byte offset of an image."""

    def __init__(self, image: Path, offset: int) -> None:
        self._at = f"{image}@@{offset}"

    def read(self, name: str) -> bytes | None:
        """A file's bytes; None if there is none."""
        done = _run("mtools", ["mtype", "-i", self._at, f"::{name}"], check=False)
        return done.stdout if done.returncode == 0 else None

    def names(self, folder: str = "") -> list[str]:
        """Names in a folder, sorted; empty if there is no such folder.

        Raises:
            BadInputError: it is no FAT file system.
        """
        done = _run("mtools", ["mdir", "-b", "-i", self._at, f"::{folder}"], check=False)
        if done.returncode and not folder:
            raise BadInputError("has no FAT file system where its boot partition is")
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        return sorted(line.rstrip("/").rsplit("/", 1)[-1] for line in lines if line.startswith("::"))

    def write(self, files: Mapping[str, Entry | Path]) -> None:
        """Put files there, over what has their names; folders are made. Their bytes are read back.

        Raises:
            ScanwrightError: the file system is full.
        """
        for folder in sorted({name.rpartition("/")[0] for name in files} - {""}):
            if not self.names(folder):
                _run("mtools", ["mmd", "-D", "s", "-i", self._at, f"::{folder}"], check=False)
        for name, what in files.items():
            data = what.read_bytes() if isinstance(what, Path) else what.data
            done = _run("mtools", ["mcopy", "-o", "-i", self._at, "-", f"::{name}"], check=False, given=data)
            if done.returncode or self.read(name) != data:
                raise ScanwrightError(f"the boot partition has no room for {name} ({len(data):,} bytes)")

    def remove(self, name: str) -> None:
        """Take a file away, if it is there."""
        _run("mtools", ["mdel", "-i", self._at, f"::{name}"], check=False)


class Ext4:
    """An ext4 file system at a byte offset of an image."""

    def __init__(self, image: Path, offset: int) -> None:
        self._at = f"{image}?offset={offset}"

    def read(self, path: str) -> bytes | None:
        """A file's bytes, following no link; None if there is none.

        Raises:
            BadInputError: it is no ext4 file system.
        """
        done = self._debugfs([f"cat {path}"], write=False)
        return None if b"File not found" in done.stderr else done.stdout

    def write(self, files: Mapping[str, Entry]) -> None:
        """Put files there, owned by root, over what has their names; folders are made. Read back.

        Raises:
            ScanwrightError: the file system is full.
        """
        with tempfile.TemporaryDirectory() as folder:
            commands = self._folders(*files)
            for number, (path, entry) in enumerate(files.items()):
                held = Path(folder) / str(number)
                held.write_bytes(entry.data)
                commands += [f"rm {path}", f"write {held} {path}"]
                commands += [f"sif {path} mode 0{0o100000 | entry.mode:o}", f"sif {path} uid 0"]
                commands += [f"sif {path} gid 0"]
            self._debugfs(commands, write=True)
        for path, entry in files.items():
            if self.read(path) != entry.data:
                raise ScanwrightError(
                    f"the root partition has no room for {path} ({len(entry.data):,} bytes)"
                )

    def link(self, path: str, target: str) -> None:
        """A symbolic link at ``path``, over what is there."""
        self._debugfs([*self._folders(path), f"rm {path}", f"symlink {path} {target}"], write=True)

    def target(self, path: str) -> str | None:
        """Where a short symbolic link leads; None if there is none."""
        said = self._debugfs([f"stat {path}"], write=False).stdout.decode("utf-8", "replace")
        found = said.partition('Fast link dest: "')[2].partition('"')[0]
        return found or None

    def _folders(self, *paths: str) -> list[str]:
        """Commands that make the missing ones: over one that is there, debugfs leaves a broken one."""
        parents = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
        return [
            f"mkdir {parent}"
            for parent in sorted(parents)
            if b"File not found" in self._debugfs([f"stat {parent}"], write=False).stderr
        ]

    def _debugfs(self, commands: list[str], write: bool) -> subprocess.CompletedProcess[bytes]:
        arguments = ["debugfs", *(["-w"] if write else []), "-f", "-", self._at]
        done = _run("e2fsprogs", arguments, check=False, given="\n".join([*commands, ""]).encode())
        if b"Filesystem not open" in done.stderr + done.stdout or b"Bad magic" in done.stderr:
            raise BadInputError("has no ext4 file system where its root partition is")
        # With -f it repeats each command before its answer.
        echo = b"".join(f"debugfs: {command}\n".encode() for command in commands[:1])
        return subprocess.CompletedProcess(done.args, 0, done.stdout.removeprefix(echo), done.stderr)


def make_ext4(image: Path, offset: int, size: int, label: str) -> None:
    """A new, empty ext4 file system of ``size`` bytes at ``offset``; its label has at most 16 bytes."""
    options = [
        "-q",
        "-F",
        "-L",
        label,
        "-m",
        "0",
        "-i",
        "65536",
        "-E",
        f"offset={offset},lazy_itable_init=0,root_owner=0:0",
    ]
    _run("e2fsprogs", ["mke2fs", "-t", "ext4", *options, str(image), f"{size // 1024}k"], check=True)


def _run(
    package: str, command: list[str], check: bool, given: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which(command[0], path=_PATH)
    if program is None:
        raise ScanwrightError(f"{command[0]} is not installed: apt-get install {package}")
    done = subprocess.run(
        [program, *command[1:]],
        input=given,
        capture_output=True,
        check=False,
        env=os.environ | {"MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C"},
    )
    if check and done.returncode:
        raise ScanwrightError(f"{command[0]}: {done.stderr.decode('utf-8', 'replace').strip()}")
    return done
