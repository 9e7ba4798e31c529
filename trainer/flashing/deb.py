"""Debian packages: the agent for one release and architecture, and a cart's own configuration and keys."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from edge import __version__
from edge.bundle.target import Release, Target
from edge.errors import ScanwrightError
from edge.update import launch
from trainer.flashing.cart import CONFIG, KIOSK_NEEDS, LAUNCHER, STATE, Entry
from trainer.flashing.wheels import install

__all__ = ["ARCHITECTURES", "LIBRARIES", "Package", "agent_package", "cart_package", "write_package"]

ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}
"""Debian's name of each architecture."""

LIBRARIES = ("libstdc++6", "zlib1g")
"""What the wheels take from Debian, beside what Python itself depends on."""

_MADE = "1767225600"  # 2026-01-01: a package's bytes depend on what is in it, not on when it was made
_RELOAD = "if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi\n"
_SERVICES = ("agent", "clock", "firewall", "kiosk", "power")
_UNITS = (*(f"scanwright-{name}.service" for name in _SERVICES), "media-scanwright.mount")
_STICK = "60-scanwright-stick.rules"


@dataclass(frozen=True)
class Package:
    """What dpkg is told of a package, and its scripts (shell, without the first line)."""

    name: str
    architecture: str
    depends: str
    summary: str
    scripts: Mapping[str, str]

    @property
    def file(self) -> str:
        """The package's file name."""
        return f"{self.name}_{__version__}_{self.architecture}.deb"


def agent_package(wheels: Path, board: Target, release: Release, out: Path) -> Path:
    """Make the agent's package in the folder ``out``: same wheels, same bytes.

    It carries the whole environment, so that installing copies files and runs nothing of Python.

    Raises:
        BadInputError: a wheel does not fit (see :func:`trainer.flashing.wheels.install`).
        ScanwrightError: dpkg-deb is missing or failed, or a requirement is not among the wheels.
    """
    minor = int(release.python.partition(".")[2])
    python = f"python3 (>= 3.{minor}~), python3 (<< 3.{minor + 1}~)"
    package = Package(
        name="scanwright",
        architecture=ARCHITECTURES[board.architecture],
        depends=f"{python}, libc6 (>= {release.glibc}), {', '.join(LIBRARIES)}, systemd",
        summary="agent that runs medical-imaging networks on portable carts",
        scripts={
            "postinst": f"""\
systemd-sysusers scanwright.conf
# Where a stick is mounted; the agent's unit lets it write there.
mkdir -p /media/scanwright
if [ ! -d /opt/scanwright/lib/python{release.python}/site-packages/edge/__pycache__ ]; then
    mode=unchecked-hash
    /opt/scanwright/bin/python3 -m compileall -q --invalidation-mode $mode /opt/scanwright/lib || true
fi
{_RELOAD}\
if [ -d /run/systemd/system ]; then systemctl try-restart --no-block scanwright-agent.service; fi
""",
            "prerm": """\
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl stop scanwright-agent.service; fi
find /opt/scanwright/lib -name __pycache__ -prune -exec rm -rf {} + || true
""",
            "postrm": _RELOAD
            + f'if [ "$1" = purge ]; then echo "{STATE} is kept: it holds findings and keys"; fi\n',
        },
    )
    with tempfile.TemporaryDirectory(dir=out) as folder:
        root = Path(folder)
        program = root / "opt/scanwright"
        install(wheels, board, release, program / f"lib/python{release.python}/site-packages")
        shutil.copyfile(launch.__file__, root / LAUNCHER.lstrip("/"))
        binaries = program / "bin"
        binaries.mkdir()
        (binaries / "python3").symlink_to(f"/usr/bin/python{release.python}")
        (binaries / "scanwright").write_text(
            "#!/opt/scanwright/bin/python3\nimport sys\n\nfrom edge.cli import main\n\nsys.exit(main())\n"
        )
        (program / "pyvenv.cfg").write_text(
            f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {release.python}\n"
        )
        entries = {
            "/usr/lib/sysusers.d/scanwright.conf": Entry(
                f'u scanwright - "scanwright agent" {STATE}\nm scanwright video\n'
                f'u scanwright-kiosk - "scanwright kiosk" /run/scanwright-kiosk\n'.encode()
            ),
            "/usr/lib/scanwright/overlay-init": Entry(_shipped("card/overlay-init"), 0o755),
            f"/usr/lib/udev/rules.d/{_STICK}": Entry(_shipped(f"systemd/{_STICK}")),
            "/usr/lib/scanwright/power-guard": Entry(_shipped("card/power-guard"), 0o755),
            "/usr/lib/scanwright/kiosk": Entry(_shipped("card/kiosk"), 0o755),
        } | {f"/usr/lib/systemd/system/{unit}": Entry(_shipped(f"systemd/{unit}")) for unit in _UNITS}
        return write_package(package, root, entries, out, {"/opt/scanwright/bin/scanwright"})


def cart_package(entries: Mapping[str, Entry], access_point: bool, kiosk: bool, out: Path) -> Path:
    """Make a cart's package of its files in the folder ``out``, readable by its owner alone: it holds keys.

    Raises:
        ScanwrightError: dpkg-deb is missing or failed.
    """
    units = "scanwright-agent scanwright-clock scanwright-firewall scanwright-power systemd-networkd"
    needs = f"scanwright (>= {__version__}), nftables"
    if access_point:
        units, needs = f"{units} wpa_supplicant@wlan0", f"{needs}, wpasupplicant"
    if kiosk:
        units = f"{units} scanwright-kiosk"
        needs = ", ".join([needs, *(" | ".join(group) for group in KIOSK_NEEDS)])
    package = Package(
        name="scanwright-cart",
        architecture="all",
        depends=needs,
        summary="configuration, keys and bundles of one cart",
        scripts={
            "postinst": f"""\
if [ -e {CONFIG}/key.pem ]; then
    chgrp scanwright {CONFIG}/*.pem
    chmod 0640 {CONFIG}/key.pem
fi
# NetworkManager, where there is one, looks after the way to the broker.
given=/usr/share/scanwright/network/20-scanwright-uplink.network
if [ -e $given ] && [ ! -e /usr/lib/systemd/system/NetworkManager.service ]; then
    cp $given /etc/systemd/network/
fi
systemctl enable --quiet {units}
{_RELOAD}\
if [ -d /run/systemd/system ]; then
    systemctl restart --no-block scanwright-firewall scanwright-power systemd-networkd scanwright-agent
    if systemctl is-enabled --quiet scanwright-kiosk; then systemctl restart --no-block scanwright-kiosk; fi
fi
""",
            "prerm": """\
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl stop scanwright-agent scanwright-firewall scanwright-kiosk scanwright-power || true
fi
if [ "$1" = remove ]; then
    for unit in agent clock firewall kiosk power; do systemctl disable --quiet scanwright-$unit; done
fi
""",
            "postrm": f"""\
if [ "$1" = remove ]; then rm -f /etc/systemd/network/20-scanwright-uplink.network; fi
{_RELOAD}""",
        },
    )
    with tempfile.TemporaryDirectory(dir=out) as folder:
        path = write_package(package, Path(folder), entries, out, set())
    path.chmod(0o600)
    return path


def write_package(
    package: Package, root: Path, entries: Mapping[str, Entry], out: Path, executables: set[str]
) -> Path:
    """Make ``package`` of what lies in ``root``, and of ``entries``; its path in ``out``.

    Files are 0644 save ``executables`` and what their entry says; all belong to root.
    """
    for path in sorted(root.rglob("*")):
        if not path.is_symlink():
            wanted = path.is_dir() or "/" + path.relative_to(root).as_posix() in executables
            path.chmod(0o755 if wanted else 0o644)
    for name, entry in entries.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.data)
        path.chmod(entry.mode)
    size = sum(path.lstat().st_size for path in root.rglob("*") if not path.is_dir())
    control = root / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        f"Package: {package.name}\nVersion: {__version__}\nArchitecture: {package.architecture}\n"
        f"Maintainer: scanwright <scanwright@localhost>\nInstalled-Size: {size // 1024 + 1}\n"
        f"Depends: {package.depends}\nSection: science\nPriority: optional\n"
        f"Description: {package.summary}\n Decision support; not a medical device.\n"
    )
    for name, script in package.scripts.items():
        (control / name).write_text(f"#!/bin/sh\nset -e\n{script}")
        (control / name).chmod(0o755)
    root.chmod(0o755)
    for folder in [control, *(path for path in root.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)
    part = out / f".{package.file}.{os.getpid()}.part"  # another flash may be making the same
    if shutil.which("dpkg-deb") is None:
        raise ScanwrightError("dpkg-deb is not installed: apt-get install dpkg")
    done = subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z9", "--build", root, part],
        env=os.environ | {"SOURCE_DATE_EPOCH": _MADE},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        part.unlink(missing_ok=True)
        raise ScanwrightError(f"{package.file}: dpkg-deb failed: {done.stderr.strip().splitlines()[-1:]}")
    return part.replace(out / package.file)


def _shipped(name: str) -> bytes:
    return (files("firmware_configs") / name).read_bytes()
