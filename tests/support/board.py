"""An emulated 64-bit Arm board that starts from a card image, and the image it is flashed from."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path

from card_images import MIB, pi_image, run

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scanwright/boot"
_SYSTEM = "systemd,systemd-sysv,dbus,python3,udev,iproute2,nftables,kmod,e2fsprogs,cloud-init,netbase"
# What a Raspberry Pi's kernel has built in or loads by itself.
_DRIVERS = (
    "virtio", "virtio_ring", "virtio_pci", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_mmio",
    "virtio_blk", "virtio_net", "net_failover", "failover", "ext4", "jbd2", "mbcache", "crc16",
    "crc32c_generic", "crc32c-generic", "libcrc32c", "fat", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1",
    "overlay",
    "nf_tables", "nfnetlink", "nft_ct", "nf_conntrack", "nf_defrag_ipv4", "nf_defrag_ipv6", "nft_reject",
)  # fmt: skip
# What Raspberry Pi OS tells its cloud-init: the seed is on the boot partition, which it waits for. Debian's
# older one wants the slash at the end.
_SEED = {
    "etc/cloud/cloud.cfg.d/99_raspberry-pi.cfg": (
        "datasource_list: [NoCloud, None]\ndatasource: {NoCloud: {seedfrom: 'file:///boot/firmware/'}}\n"
    ),
    "etc/systemd/system/cloud-init-local.service.d/seed.conf": ("[Unit]\nRequiresMountsFor=/boot/firmware\n"),
}
_INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in $(cat /order); do insmod "/modules/$module" 2>/dev/null; done
init=/sbin/init
for word in $(cat /proc/cmdline); do case $word in init=*) init=${word#init=};; esac; done
while [ ! -b /dev/vda2 ]; do sleep 0.1; done
mount -t ext4 -o ro /dev/vda2 /root || exec sh
mount --move /dev /root/dev; umount /sys /proc
exec switch_root /root "$init"
"""


def _debian(name: str, *options: str) -> Path:
    path = CACHE / f"{name}.tar"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.tar")
        command = ["mmdebstrap", "--quiet", "--arch=arm64", *options, "bookworm", str(part)]
        subprocess.run(command, check=True, timeout=3600)
        part.replace(path)
    return path


def kernel() -> tuple[Path, Path]:
    """Debian's kernel for arm64, and a small initrd that mounts the card's second partition."""
    image, initrd = CACHE / "vmlinuz", CACHE / "initrd"
    if initrd.exists():
        return image, initrd
    source = _debian("kernel", "--variant=extract", "--include=linux-image-arm64,busybox-static")
    tree = CACHE / "kernel"
    shutil.rmtree(tree, ignore_errors=True)
    with tarfile.open(source) as archive:
        archive.extractall(tree, filter="tar")
    (found,) = (tree / "boot").glob("vmlinuz-*")
    shutil.copy(found, image)
    version = found.name.removeprefix("vmlinuz-")
    base = tree / "usr/lib/modules" / version
    if not base.is_dir():
        base = tree / "lib/modules" / version
    run("depmod", "-b", base.parents[2], version)
    needs = {
        line.split(":")[0]: line.split(":")[1].split()
        for line in (base / "modules.dep").read_text().splitlines()
    }
    order: list[str] = []

    def add(module: str) -> None:
        for needed in needs[module]:
            if needed not in order:
                add(needed)
        if module not in order:
            order.append(module)

    by_name = {re.sub(r"\.ko(\.xz)?$", "", Path(module).name): module for module in needs}
    for name in _DRIVERS:
        if name in by_name:
            add(by_name[name])
    root = CACHE / "initrd-tree"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("bin", "modules", "proc", "sys", "dev", "root"):
        (root / name).mkdir(parents=True)
    (busybox,) = (path for path in (tree / "bin/busybox", tree / "usr/bin/busybox") if path.is_file())
    shutil.copy(busybox, root / "bin/busybox")
    for module in order:
        held = root / "modules" / Path(module).name
        shutil.copy(base / module, held)
    (root / "order").write_text("\n".join(Path(module).name for module in order))
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    script = f"cd {root} && find . | cpio --quiet -o -H newc > {initrd}.part"
    subprocess.run(["sh", "-c", script], check=True, timeout=60)
    Path(f"{initrd}.part").replace(initrd)
    return image, initrd


def _system_tree() -> Path:
    """The folder of a minimal Debian for arm64, as if just installed."""
    source = _debian("root", "--variant=minbase", f"--include={_SYSTEM}")
    tree = CACHE / "root"
    shutil.rmtree(tree, ignore_errors=True)
    subprocess.run(["tar", "-xpf", source, "-C", _made(tree), "--exclude=./dev/*"], check=True, timeout=300)
    return tree


def vendor_image(cloud_init: bool) -> Path:
    """A card image as vendors make them: Debian for arm64, with cloud-init or without."""
    path = CACHE / f"vendor-{'cloud-init' if cloud_init else 'firstrun'}.img"
    if path.exists():
        return path
    tree = _system_tree()
    (tree / "boot/firmware").mkdir(parents=True, exist_ok=True)
    (tree / "etc/fstab").write_text(
        "PARTUUID=1234abcd-01 /boot/firmware vfat defaults 0 2\n"
        "PARTUUID=1234abcd-02 / ext4 defaults,noatime 0 1\n"
    )
    (tree / "etc/hostname").write_text("raspberrypi\n")
    if cloud_init:
        for name, text in _SEED.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text)
    else:
        (tree / "usr/bin/cloud-init").unlink()
        (tree / "etc/cloud/cloud-init.disabled").touch()
    part = path.with_suffix(".part.img")
    pi_image(part, tree, boot_mib=256, root_mib=760)
    line = (
        "console=ttyAMA0 root=PARTUUID=1234abcd-02 rootfstype=ext4 fsck.repair=yes net.ifnames=0 rootwait"
        " systemd.journald.forward_to_console=1\n"
    )
    held = CACHE / "cmdline"
    held.write_text(line)
    run("mcopy", "-o", "-i", f"{part}@@{4 * MIB}", held, "::cmdline.txt")
    return part.replace(path)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


class Board:
    """Has eth0, where the modality is (by ``dicom_port`` of this machine), and eth1 towards the broker."""

    def __init__(self, card: Path, dicom_port: int, log: Path) -> None:
        self.card, self.log, self._port = card, log, dicom_port
        self._process: subprocess.Popen[bytes] | None = None

    def power_on(self) -> None:
        """Start. What it has written stands, as in a card, when the process is killed (cache=unsafe)."""
        image, initrd = kernel()
        words = subprocess.run(
            ["mtype", "-i", f"{self.card}@@{4 * MIB}", "::cmdline.txt"],
            capture_output=True, text=True, check=True, env=os.environ | {"MTOOLS_SKIP_CHECK": "1"},
        ).stdout.strip()  # fmt: skip
        modality = "user,id=m,restrict=on,net=192.168.77.0/24,host=192.168.77.2,dhcpstart=192.168.77.50"
        modality += f",hostfwd=tcp:127.0.0.1:{self._port}-192.168.77.1:11112"
        with self.log.open("ab") as log:
            log.write(f"\n==== power on: {words}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                [
                    "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "1024",
                    "-accel", "tcg,thread=multi", "-nographic", "-no-reboot", "-serial", "mon:stdio",
                    "-kernel", str(image), "-initrd", str(initrd), "-append", words,
                    "-drive", f"if=none,id=card,format=raw,cache=unsafe,file={self.card}",
                    "-device", "virtio-blk-pci,drive=card",
                    "-netdev", modality, "-device", "virtio-net-pci,netdev=m,romfile=",
                    "-netdev", "user,id=u", "-device", "virtio-net-pci,netdev=u,romfile=",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def off(self, timeout_s: float) -> None:
        """Wait until it has switched itself off, as it does in place of starting again."""
        assert self._process
        self._process.wait(timeout_s)

    def cut_power(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)

    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None
