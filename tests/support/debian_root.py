"""Debian systems to install into, or to run programs of: made once by mmdebstrap, kept, never changed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

_INCLUDE = "systemd,systemd-sysv,dbus,python3,udev,nftables,iproute2"


def root(release: str, architecture: str = "amd64") -> Path:
    """The folder of a minimal system; skips where none can be made."""
    return _made(f"{release}-{architecture}", release, "--variant=minbase", f"--include={_INCLUDE}")


def unpacked(release: str, architecture: str, *packages: str) -> Path:
    """The folder of packages and all they depend on, of any architecture: nothing in it is run to make it.

    Skips where it cannot be made.
    """
    name = "-".join((release, architecture, *packages))
    return _made(
        name, release, "--variant=extract", f"--arch={architecture}", f"--include={','.join(packages)}"
    )


def python_system(release: str, architecture: str = "amd64") -> Path:
    """The tar of a minimal system whose ``python`` is the release's own; skips where it cannot be made."""
    options = ("--variant=minbase", f"--arch={architecture}", "--include=python3-venv")
    link = '--customize-hook=ln -s ../../bin/python3 "$1/usr/local/bin/python"'
    return _made(f"{release}-{architecture}-python.tar", release, *options, link)


def _made(name: str, release: str, *options: str) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scanwright/roots"
    made = base / name
    if made.exists():
        return made
    if os.geteuid() or not shutil.which("mmdebstrap"):
        pytest.skip("needs root and mmdebstrap: apt-get install mmdebstrap")
    base.mkdir(parents=True, exist_ok=True)
    part = base / f"part-{name}"
    shutil.rmtree(part, ignore_errors=True)
    command = ["mmdebstrap", "--quiet", *options, release, str(part)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return part.replace(made)


class Machine:
    """A container with its own systemd and no network at all; what it changes is gone with it."""

    def __init__(self, folder: Path, log: Path) -> None:
        if os.geteuid() or not shutil.which("systemd-nspawn"):
            pytest.skip("needs root and systemd-nspawn: apt-get install systemd-container")
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [
                    "systemd-nspawn", "--quiet", f"--directory={folder}", "--volatile=overlay", "--boot",
                    "--private-network", "--register=no", "--keep-unit", "--console=pipe",
                    f"--machine=scanwright-{os.getpid()}",
                ],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
        self.until("systemctl is-system-running | grep -E 'running|degraded'", 60)

    def _leader(self) -> str:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return children[0] if children else ""

    def run(self, script: str, check: bool = True) -> str:
        """Run a shell script inside; its output."""
        enter = ["nsenter", "-t", self._leader(), "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w"]
        done = subprocess.run([*enter, "sh", "-ec", script], capture_output=True, text=True, timeout=180)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout if done.returncode == 0 else ""

    def until(self, script: str, timeout_s: float = 60) -> str:
        """The output of ``script`` as soon as it succeeds."""
        deadline = time.monotonic() + timeout_s
        while True:
            assert self._process.poll() is None, self._log.read_text(errors="replace")[-2000:]
            if self._leader() and (said := self.run(script, check=False)):
                return said
            if time.monotonic() > deadline:
                journal = self.run("journalctl --no-pager -n 30", check=False)
                raise AssertionError(f"{script}: not in time\n{journal}")
            time.sleep(0.3)

    def put(self, path: Path, where: str) -> None:
        """Copy a file of this machine into it."""
        enter = ["nsenter", "-t", self._leader(), "-m", "-r", "sh", "-c", f"cat > {where}"]
        subprocess.run(enter, input=path.read_bytes(), check=True, timeout=60)

    def end(self) -> None:
        if self._process.poll() is None and (leader := self._leader()):
            os.kill(int(leader), signal.SIGKILL)
        self._process.wait(30)
