"""The packages on a real Debian system with no network: in, up, watched, out, in again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
from debian_root import Machine, root

from edge.update.package import unpack_agent

pytestmark = [pytest.mark.integration, pytest.mark.slow]

AGENT = "/opt/scanwright/bin/scanwright agent"
CONFIG = "--config /etc/scanwright/agent.yaml"
EVERYTHING = """
import pkgutil, edge, highdicom
for found in pkgutil.walk_packages(edge.__path__, "edge."):
    if not found.name.startswith("edge.monitor"):  # headquarters, which has requirements of its own
        __import__(found.name)
print("imported")
"""
SCREEN = 'import urllib.request as web; print(web.urlopen("http://127.0.0.1:8080/").read().decode())'
SITE = {
    "site": "clinic",
    "broker": {"host": "192.0.2.1", "tls": True},
    "carts": [
        {
            "device": "cart-1",
            "target": "generic-amd64",
            "dicom": {"callers": ["XRAY"]},
            "sources": [{"kind": "folder", "path": "/var/lib/scanwright/inbox"}],
        }
    ],
}


def scanwright(folder: Path, *arguments: str, timeout_s: float = 400) -> str:
    command = [sys.executable, "-m", "edge.cli", *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["bookworm", pytest.param("trixie", marks=pytest.mark.boot)])
def release(request: Any) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Any, release: str) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "SITE.yaml").write_text(yaml.safe_dump(SITE))
    tiny_bundle(folder / "tiny.swb", target="generic-amd64")
    scanwright(folder, "keys", "init", "SITE.yaml", "--out", "keys")
    given = (
        "--site",
        "SITE.yaml",
        "--keys",
        "keys",
        "--bundle",
        "tiny.swb",
        "--allow-unsigned",
        "--release",
        release,
    )
    scanwright(folder, "flash", *given, "--deb", "packages")
    again = folder / "again"
    scanwright(folder, "flash", *given, "--deb", "again")
    for path in (folder / "packages").iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), "same inputs, same bytes"
    return folder / "packages"


@pytest.fixture
def machine(tmp_path: Path, release: str) -> Iterator[Machine]:
    made = Machine(root(release), tmp_path / "nspawn.log")
    yield made
    made.end()


def findings(machine: Machine) -> list[dict[str, Any]]:
    said = machine.until(f"setpriv --reuid scanwright --clear-groups {AGENT} status --json {CONFIG}")
    return list(json.loads(said)["findings"])


def feed(machine: Machine, picture: Any, number: int, folder: Path) -> None:
    path = folder / f"{number}.png"
    cv2.imwrite(str(path), picture("lesion", number))
    machine.run("install -d -o scanwright /var/lib/scanwright/inbox")
    machine.put(path, f"/var/lib/scanwright/inbox/{number}.png")


def test_installed_with_no_network_it_runs_is_watched_goes_and_comes_back_with_its_state(
    packages, machine, picture, tmp_path
):
    size = sum(path.stat().st_size for path in packages.iterdir())
    assert size < 120e6
    (agent,) = packages.glob("scanwright_*.deb")
    said = subprocess.run(
        ["dpkg-deb", "-f", agent, "Installed-Size"], capture_output=True, text=True, check=True
    ).stdout
    assert int(said) * 1024 < 350e6
    assert next(packages.glob("scanwright-cart*")).stat().st_mode & 0o77 == 0, "it holds a private key"
    for path in packages.iterdir():
        machine.put(path, f"/run/{path.name}")
    install = "dpkg --install /run/*.deb"
    machine.run(install)
    machine.until("systemctl is-active scanwright-agent")
    assert machine.run("systemctl is-active scanwright-firewall systemd-networkd").split() == ["active"] * 2
    assert "tcp dport { 8080, 11112 } accept" in machine.run("nft list table inet scanwright")
    assert machine.run("stat -c '%U:%G %a' /etc/scanwright/key.pem").strip() == "root:scanwright 640"

    # Of what its requirements bring, nothing is left out that it needs.
    assert machine.run(f"/opt/scanwright/bin/python3 -c '{EVERYTHING}'").strip() == "imported"
    assert "<html" in machine.until(f"python3 -c '{SCREEN}'")

    # It finds, and keeps what it found while nobody can be told.
    feed(machine, picture, 1, tmp_path)
    machine.until(f"{AGENT} status --json {CONFIG} | grep -q '\"positive\"' && echo found", 60)

    # A stick that is put in later is there for it, and can be written.
    machine.run("systemctl mask --runtime media-scanwright.mount")  # it ends with its device; here is none
    machine.run("mount -t tmpfs -o uid=scanwright,nosuid,nodev,noexec stick /media/scanwright")
    pid = machine.run("systemctl show -P MainPID scanwright-agent").strip()
    machine.run(f"nsenter -t {pid} -m sh -c 'mountpoint /media/scanwright && touch /media/scanwright/x'")
    machine.run("umount /media/scanwright")

    # Killed, it comes back; hanging, the watchdog brings it back.
    pid = machine.run("systemctl show -P MainPID scanwright-agent").strip()
    machine.run(f"kill -KILL {pid}")
    changed = 'p=$(systemctl show -P MainPID scanwright-agent); [ "$p" != 0 ] && [ "$p" != {} ] && echo $p'
    pid = machine.until(changed.format(pid)).strip()
    machine.run(
        "mkdir -p /run/systemd/system/scanwright-agent.service.d && printf '[Service]\\nWatchdogSec=3\\n'"
        " >/run/systemd/system/scanwright-agent.service.d/test.conf && systemctl daemon-reload"
        " && systemctl restart scanwright-agent"
    )
    pid = machine.until("systemctl show -P MainPID scanwright-agent").strip()
    machine.run(f"kill -STOP {pid}")
    machine.until(changed.format(pid))
    assert "Watchdog timeout" in machine.run("journalctl -u scanwright-agent --no-pager")
    before = findings(machine)
    assert len(before) == 1

    # Upgrading over itself, removing and installing again keep what was found.
    machine.run(install)
    machine.until("systemctl is-active scanwright-agent")
    machine.run("dpkg --purge scanwright-cart scanwright")
    gone = "/opt/scanwright /etc/scanwright /usr/lib/scanwright /usr/share/scanwright"
    assert machine.run(f"ls -d {gone} 2>/dev/null || true") == ""
    assert machine.run("systemctl list-unit-files 'scanwright*' --no-legend || true").strip() == ""
    machine.run("test -s /var/lib/scanwright/agent.db")
    machine.run(install)
    machine.until("systemctl is-active scanwright-agent")
    assert findings(machine) == before


@pytest.mark.boot  # minutes of compression
def test_the_agent_as_a_release_runs_from_a_slot(machine, release, tmp_path):
    given = ("--target", "generic-amd64", "--release", release, "--out", "dist")
    scanwright(tmp_path, "agent-package", *given, timeout_s=1800)
    (made,) = (tmp_path / "dist").glob("agent-*-generic-amd64.swa")
    unpack_agent(made, tmp_path / "slot")
    archive = tmp_path / "slot.tar"
    subprocess.run(["tar", "-cf", archive, "-C", tmp_path / "slot", "."], check=True, timeout=60)
    machine.put(archive, "/run/slot.tar")
    machine.run("mkdir /var/slot && tar -xf /run/slot.tar -C /var/slot")
    assert "version" in machine.run("/var/slot/bin/scanwright --version")
    # Decoding happens in processes that the agent starts: they find the slot's modules, too.
    assert "ok" in machine.run("cd / && /var/slot/bin/scanwright inspect --help >/dev/null && echo ok")
    assert machine.run("PYTHONPATH= /var/slot/bin/scanwright targets | grep -c generic-amd64").strip() != "0"
