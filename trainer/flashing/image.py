"""Card images: a vendor's image is copied, looked at, and given all that a cart needs at its first start."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO

from edge.bundle.target import Release, Target
from edge.errors import BadInputError, ScanwrightError
from edge.site import Cart, Site
from trainer.flashing.cart import KIOSK_NEEDS, Entry
from trainer.flashing.filesystems import Ext4, Fat, make_ext4
from trainer.flashing.partitions import SECTOR, Partition, extended, read_table

__all__ = ["Layout", "copy_image", "examine", "inject"]

_BLOCK = 4 << 20
_FAT = {"01", "04", "06", "0b", "0c", "0e", "ef"}
_LINUX = {"83", "0fc63daf-8483-4772-8e79-3d69d8477de4", "b921b045-1df0-41c3-af44-4c6f280d3fae"}
_MACHINES = {0xB7: "aarch64", 0x3E: "x86_64", 0x28: "armv7 (32 bit)"}
_ROOT_GROWTH, _DATA = (
    1 << 30,
    512 << 20,
)  # bytes; the data partition takes the rest of the card at first start
_FOLDER = "scanwright"
_OEM_SETUP = "nv-oem-config.target"


@dataclass(frozen=True)
class Layout:
    """Where an image has what: partitions, and the release that it is of."""

    boot: Partition | None
    root: Partition
    release: Release
    cloud_init: bool
    injected: bool


def copy_image(source: Path, out: Path, advance: Callable[[int], None]) -> None:
    """Copy an image (as it is, or .xz or .gz compressed) to a new, sparse file.

    ``advance`` is called with the bytes of ``source`` that were taken.

    Raises:
        BadInputError: it cannot be read, or its compression is damaged.
        ScanwrightError: there is no room.
    """
    try:
        with source.open("rb") as raw:
            magic = raw.read(6)
            raw.seek(0)
            _copy(_unpacked(raw, magic), raw, out, advance)
    except (lzma.LZMAError, EOFError, gzip.BadGzipFile) as error:
        raise BadInputError(f"{source}: is damaged or cut short; download it again") from error
    except OSError as error:
        if error.errno in (28, 122, 27):  # ENOSPC, EDQUOT, EFBIG
            raise ScanwrightError(f"{out}: no room for the image ({error.strerror})") from error
        raise BadInputError(f"{error.filename or source}: {error.strerror or 'cannot be read'}") from error


def _unpacked(raw: IO[bytes], magic: bytes) -> IO[bytes] | gzip.GzipFile:
    if magic == b"\xfd7zXZ\0":
        return lzma.LZMAFile(raw)
    if magic[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=raw)
    return raw


def _copy(
    opened: IO[bytes] | gzip.GzipFile, raw: IO[bytes], out: Path, advance: Callable[[int], None]
) -> None:
    with out.open("wb") as target:
        before = 0
        while block := opened.read(_BLOCK):
            if block.count(0) == len(block):
                target.seek(len(block), os.SEEK_CUR)
            else:
                target.write(block)
            advance(raw.tell() - before)
            before = raw.tell()
        target.truncate()


def examine(image: Path, board: Target) -> Layout:
    """What an image is.

    Raises:
        BadInputError: it is no card image, damaged, of another architecture or an unknown release, or a
            partition is missing; the message names the image.
    """
    try:
        return _examine(image, board)
    except BadInputError as error:
        raise BadInputError(f"{image}: {error}") from error


def _examine(image: Path, board: Target) -> Layout:
    with image.open("rb") as file:
        table = read_table(file, image.stat().st_size)
    boot = next((part for part in table.partitions if part.kind in _FAT), None)
    roots = [part for part in table.partitions if part.kind in _LINUX]
    root = next((part for part in roots if part.name == "APP"), roots[0] if roots else None)
    if board.card == "raspberry-pi" and boot is None:
        raise BadInputError("has no FAT boot partition; take the vendor's image of Raspberry Pi OS")
    if root is None:
        raise BadInputError("has no Linux root partition")
    if board.card == "jetson" and root.name != "APP":
        raise BadInputError("has no partition called APP; take the vendor's image for Jetson")
    ext4 = Ext4(image, root.start)
    program = ext4.read("/usr/bin/dpkg")
    if program is None or program[:4] != b"\x7fELF":
        raise BadInputError("its root partition holds no Debian system (no /usr/bin/dpkg)")
    machine = int.from_bytes(program[18:20], "little")
    if _MACHINES.get(machine) != board.architecture:
        found = _MACHINES.get(machine, f"machine {machine}")
        raise BadInputError(f"is for {found}, but {board.name} needs {board.architecture}")
    said = (ext4.read("/usr/lib/os-release") or b"").decode("utf-8", "replace")
    words = dict(line.split("=", 1) for line in shlex.split(said, comments=True) if "=" in line)
    release = board.release(words.get("VERSION_CODENAME", "unknown"))
    if board.card == "jetson" or boot is None:
        injected = ext4.read(f"/{_FOLDER}/card.conf") is not None
        return Layout(None, root, release, False, injected)
    fat = Fat(image, boot.start)
    if "cmdline.txt" not in fat.names():
        raise BadInputError(
            "its boot partition has no cmdline.txt; take the vendor's image of Raspberry Pi OS"
        )
    off = ext4.read("/etc/cloud/cloud-init.disabled") is not None
    off = off or _CLOUD_INIT_OFF in _kernel_words(fat)
    cloud_init = ext4.read("/usr/bin/cloud-init") is not None and not off
    return Layout(boot, root, release, cloud_init, "card.conf" in fat.names(_FOLDER))


def _kernel_words(fat: Fat) -> list[str]:
    return (fat.read("cmdline.txt") or b"").decode("utf-8", "replace").split()


def inject(
    image: Path, layout: Layout, site: Site, cart: Cart, packages: Sequence[Path], read_only: bool = True
) -> None:
    """Put packages, first-start files and the data partition into an image; twice is as once.

    The order is such that an image that was cut off in the middle starts as the vendor's does.

    Raises:
        BadInputError: the image cannot take what is needed; the message names it.
        ScanwrightError: a partition is full.
    """
    if cart.kiosk:
        _can_show(image, layout.root, cart)
    first_boot = (files("firmware_configs") / "card/first-boot").read_bytes()
    conf = {
        "DEVICE": cart.device,
        "TIMEZONE": site.timezone,
        "COUNTRY": cart.network.country or (cart.network.wifi.country if cart.network.wifi else ""),
        "OVERLAY": str(int(read_only)),
    }
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in packages)
    texts = {
        "card.conf": "".join(f"{key}={shlex.quote(value)}\n" for key, value in conf.items()).encode(),
        "first-boot": first_boot,
        "SHA256SUMS": sums.encode(),
    }
    try:
        if layout.boot is None:
            _into_root(image, layout.root, packages, texts)
            return
        if not layout.injected:
            _add_data(image, layout.root)
        if layout.cloud_init:
            then = "ExecStartPost=/bin/systemctl --no-block reboot"
            _first_start(Ext4(image, layout.root.start), f"/boot/firmware/{_FOLDER}", then)
        _into_boot(image, layout.boot, layout.cloud_init, packages, texts)
    except BadInputError as error:
        raise BadInputError(f"{image}: {error}") from error
    except ScanwrightError as error:
        raise ScanwrightError(f"{image}: {error}") from error


def _can_show(image: Path, root: Partition, cart: Cart) -> None:
    # The cart has no network to fetch from when it starts.
    status = (Ext4(image, root.start).read("/var/lib/dpkg/status") or b"").decode("utf-8", "replace")
    for group in KIOSK_NEEDS:
        if not any(f"\nPackage: {name}\nStatus: install ok installed\n" in f"\n{status}" for name in group):
            raise BadInputError(
                f"{image}: has no {' or '.join(group)}, which the kiosk of cart '{cart.device}' needs:"
                " take the vendor's image with desktop"
            )


def _add_data(image: Path, root: Partition) -> None:
    with image.open("r+b") as file:
        if any(part.start > root.start for part in read_table(file, image.stat().st_size).partitions):
            raise BadInputError("its root partition is not the last one; take the vendor's own image")
        file.seek(0)
        sector, data = extended(file.read(SECTOR), root, _ROOT_GROWTH, _DATA)
        file.truncate(data.start + data.size)
        file.flush()
        make_ext4(image, data.start, data.size, "scanwright-data")
        file.seek(0)
        file.write(sector)
        os.fsync(file.fileno())


def _into_boot(
    image: Path,
    boot: Partition,
    cloud_init: bool,
    packages: Sequence[Path],
    texts: Mapping[str, bytes],
) -> None:
    fat = Fat(image, boot.start)
    fat.write({f"{_FOLDER}/{path.name}": path for path in packages})
    fat.write({f"{_FOLDER}/{name}": Entry(data) for name, data in texts.items()})
    # The vendor's own first start would grow the root over the card, which the table has done already.
    words = [
        w
        for w in _kernel_words(fat)
        if not w.startswith(("init=", "systemd.run")) and w not in (_RUN, _NO_NETWORK)
    ]
    if cloud_init:
        # Networks are the package's: without a word for it cloud-init asks for addresses at every port.
        words.append(_NO_NETWORK)
    else:
        script = f"#!/bin/sh\nexec sh /boot/firmware/{_FOLDER}/first-boot\n"
        fat.write({"firstrun.sh": Entry(script.encode())})
        words += [
            "systemd.run=/boot/firmware/firstrun.sh",
            "systemd.run_success_action=reboot",
            "systemd.run_failure_action=reboot",
            _RUN,
        ]
    fat.write({"cmdline.txt": Entry((" ".join(words) + "\n").encode())})


_RUN = "systemd.unit=kernel-command-line.target"
_NO_NETWORK = "network-config=disabled"  # which the first start puts _CLOUD_INIT_OFF in place of
_CLOUD_INIT_OFF = "cloud-init=disabled"
# After all that cloud-init's user may have had it do, which may itself come after the target.
_UNIT = """\
[Unit]
Description=scanwright first start
DefaultDependencies=no
After=basic.target cloud-final.service
Conflicts=shutdown.target
Before=shutdown.target
RequiresMountsFor={folder}
ConditionPathExists={folder}/SHA256SUMS

[Service]
Type=oneshot
ExecStart=/bin/sh {folder}/first-boot
{then}
"""


def _first_start(ext4: Ext4, folder: str, then: str = "") -> None:
    """Let systemd, which needs nothing that a power cut may spoil, begin the installation."""
    unit = "/etc/systemd/system/scanwright-first-boot.service"
    ext4.write({unit: Entry(_UNIT.format(folder=folder, then=then).encode())})
    ext4.link("/etc/systemd/system/multi-user.target.wants/scanwright-first-boot.service", unit)


def _into_root(image: Path, root: Partition, packages: Sequence[Path], texts: Mapping[str, bytes]) -> None:
    ext4 = Ext4(image, root.start)
    entries = {f"/{_FOLDER}/{path.name}": Entry(path.read_bytes(), 0o600) for path in packages}
    ext4.write(entries | {f"/{_FOLDER}/{name}": Entry(data) for name, data in texts.items()})
    _first_start(ext4, f"/{_FOLDER}")
    # Until somebody answers at a screen, the vendor's setup keeps everything else from starting.
    default = "/etc/systemd/system/default.target"
    if (ext4.target(default) or "").endswith(_OEM_SETUP):
        ext4.link(default, "/lib/systemd/system/multi-user.target")
