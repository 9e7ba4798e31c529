"""Small card images for tests, laid out as the vendors' are: built in a second, with no root."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

MIB = 1 << 20
CMDLINE = (
    "console=serial0,115200 console=tty1 root=PARTUUID=1234abcd-02 rootfstype=ext4 fsck.repair=yes rootwait"
)
MACHINES = {"aarch64": 0xB7, "x86_64": 0x3E, "armv7": 0x28}


def run(*command: str | Path, given: str | None = None) -> str:
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1"}
    done = subprocess.run(
        [*map(str, command)], input=given, capture_output=True, text=True, timeout=120, env=path
    )
    assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
    return done.stdout


def root_tree(
    folder: Path, machine: str = "aarch64", codename: str = "bookworm", cloud_init: bool = False
) -> Path:
    """What of a Debian system an image is told by."""
    files = {
        "usr/bin/dpkg": b"\x7fELF" + bytes(14) + struct.pack("<H", MACHINES[machine]) + bytes(44),
        "usr/lib/os-release": f'ID=debian\nPRETTY_NAME="Debian ($x)"\nVERSION_CODENAME={codename}\n'.encode(),
        "etc/fstab": b"PARTUUID=1234abcd-02 / ext4 defaults,noatime 0 1\n",
    }
    if cloud_init:
        files["usr/bin/cloud-init"] = b"#!/usr/bin/python3\n"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def pi_image(
    path: Path,
    root: Path,
    boot_mib: int = 16,
    root_mib: int = 24,
    boot: dict[str, str] | None = None,
) -> Path:
    """An MBR with a FAT boot partition and an ext4 root, as Raspberry Pi OS has."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate((4 + boot_mib + root_mib) * MIB)
    table = f"label: dos\nlabel-id: 0x1234abcd\n4MiB,{boot_mib}MiB,c\n{4 + boot_mib}MiB,{root_mib}MiB,83\n"
    run("sfdisk", "-q", path, given=table)
    fat = ["-F", "32", "-s", "2"] if boot_mib > 64 else []
    run("mkfs.vfat", *fat, "-n", "bootfs", "--offset", str(4 * MIB // 512), path, str(boot_mib * 1024))
    files = {"cmdline.txt": CMDLINE + "\n", "config.txt": "arm_64bit=1\n"} | (boot or {})
    for name, text in files.items():
        held = path.with_suffix(".part")
        held.write_text(text)
        run("mcopy", "-i", f"{path}@@{4 * MIB}", held, f"::{name}")
        held.unlink()
    offset = f"offset={(4 + boot_mib) * MIB}"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "rootfs", "-d", root, "-E", offset, path, f"{root_mib}M")
    return path


def jetson_image(path: Path, root: Path, root_mib: int = 24) -> Path:
    """A GPT whose first entry is the root, called APP, with others around it."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate((16 + root_mib) * MIB)
    linux, basic = "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
    table = (
        f"label: gpt\nstart=8MiB,size={root_mib}MiB,type={linux},name=APP\n"
        f'start=1MiB,size=2MiB,type={basic},name="A_kernel"\n'
    )
    run("sfdisk", "-q", path, given=table)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", root, "-E", f"offset={8 * MIB}", path, f"{root_mib}M")
    return path


def check(image: Path) -> None:
    """Every file system of the image, looked at by its own checker."""
    from trainer.flashing.partitions import read_table

    with image.open("rb") as file:
        table = read_table(file, image.stat().st_size)
    for part in table.partitions:
        if part.name == "A_kernel":
            continue
        held = image.with_suffix(f".{part.number}")
        with image.open("rb") as file, held.open("wb") as out:
            file.seek(part.start)
            out.write(file.read(part.size)) if part.size < 64 * MIB else None
        if part.size >= 64 * MIB:
            run("dd", f"if={image}", f"of={held}", "bs=1M", f"skip={part.start // MIB}", "conv=sparse",
                f"count={part.size // MIB}", "status=none")  # fmt: skip
        fat = held.read_bytes()[:512][82:85] == b"FAT" or held.read_bytes()[:512][54:57] == b"FAT"
        run("fsck.vfat", "-n", held) if fat else run("e2fsck", "-fn", held)
        held.unlink()
