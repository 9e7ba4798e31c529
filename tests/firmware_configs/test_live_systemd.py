"""The agent's unit under a live systemd: it starts, says that it is ready, and no hang or kill ends it.

The machine is a container of this one's own /usr with nothing else in it and no network: up in a second.
"""

from __future__ import annotations

import os
import shutil
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
from sites import site_keys

from edge.monitor.delivery import Load, deliver

# Not an integration test: a machine that boots no container skips it, and says so.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SERVICE = "scanwright-agent.service"
PYTHON = f"/opt/python/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
PROGRAM = f"""#!/bin/sh
export LD_LIBRARY_PATH=/opt/python/lib
exec {PYTHON} -m edge.cli "$@"
"""
DROP_IN = """[Service]
Environment=PYTHONPATH=/opt/source:/opt/packages
WatchdogSec=8
TimeoutStopSec=5
"""


class Machine:
    """A container that has booted; ``run`` is a shell in it."""

    def __init__(self, log: Path, *binds: str) -> None:
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [
                    "systemd-nspawn", "--quiet", "--directory=/", "--volatile=yes", "--private-network",
                    "--register=no", "--keep-unit", "--console=pipe", f"--machine=agent-{os.getpid()}",
                    *(f"--bind-ro={bind}" for bind in binds),
                    "--boot", f"systemd.wants={SERVICE}",
                ],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip

    def _leader(self) -> str:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        found = children.read_text().split() if children.exists() else []
        return found[0] if found else ""

    def run(self, script: str) -> str:
        """Its output; "" if it fails."""
        leader = self._leader()
        if not leader:
            return ""
        enter = ["nsenter", "-t", leader, "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w", "sh", "-ec", script]
        done = subprocess.run(enter, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    def boots(self) -> bool:
        """Whether its systemd answers, within a while."""
        deadline = time.monotonic() + 60
        while not self.run("systemctl show --value -p Version"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-500:].strip()

    def until(self, condition: Callable[[], Any], timeout_s: float = 90.0) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.journal()[-3000:]
            time.sleep(0.2)
        return value

    def journal(self) -> str:
        return self.run(f"journalctl --no-pager -n 40 -u {SERVICE}")

    def show(self, what: str) -> str:
        return self.run(f"systemctl show --value -p {what} {SERVICE}")

    def end(self) -> None:
        if self._process.poll() is None and (leader := self._leader()):
            os.kill(int(leader), signal.SIGKILL)
        self._process.wait(30)


@pytest.fixture
def machine(tmp_path: Path, tiny_bundle: Any) -> Iterator[Machine]:
    if os.geteuid() or shutil.which("systemd-nspawn") is None:
        pytest.skip("needs root and systemd-nspawn: apt-get install systemd-container")
    configuration, images = tmp_path / "etc", tmp_path / "images"
    for folder in (configuration, images):
        folder.mkdir()
    tiny_bundle(configuration / "tiny.swb")
    said = {
        "site": "clinic",
        "device": "cart-1",
        "state": "/var/lib/scanwright",
        "bundles": ["tiny.swb"],
        "allow_unsigned": True,
        "sources": [{"kind": "folder", "path": "/srv/images", "poll_s": 0.1, "settle_s": 0.1}],
        "mqtt": {
            "port": 1883,
            "tls": {"ca": "ca.pem", "certificate": "certificate.pem", "key": "key.pem"},
        },
        "courier": {"mount": "/media/scanwright", "hq_key": "hq.pub"},
        "screen": None,
        "health_s": 1,
    }
    site_keys().write(configuration)
    stick = tmp_path / "stick"
    stick.mkdir()
    deliver(stick, site_keys().public, Load(["clinic/cart-1"]), datetime.now(timezone.utc))
    texts = {
        configuration / "agent.yaml": yaml.safe_dump(said),
        tmp_path / "drop-in.conf": DROP_IN,
        tmp_path / "users.conf": "u scanwright - - /var/lib/scanwright\n",
        tmp_path / "scanwright": PROGRAM,
    }
    for path, text in texts.items():
        path.write_text(text)
        path.chmod(0o755)
    for path in (configuration, images, *configuration.iterdir()):
        path.chmod(0o755)
    made = Machine(
        tmp_path / "nspawn.log",
        f"{sys.base_prefix}:/opt/python",
        f"{site.getsitepackages()[0]}:/opt/packages",
        f"{ROOT / 'edge'}:/opt/source/edge",
        f"{tmp_path / 'scanwright'}:/opt/scanwright/bin/scanwright",
        f"{configuration}:/etc/scanwright",
        f"{images}:/srv/images",
        f"{stick}:/srv/stick",
        f"{tmp_path / 'users.conf'}:/etc/sysusers.d/scanwright.conf",
        f"{ROOT / 'firmware_configs/systemd' / SERVICE}:/etc/systemd/system/{SERVICE}",
        f"{tmp_path / 'drop-in.conf'}:/etc/systemd/system/{SERVICE}.d/test.conf",
    )
    try:
        if not made.boots():
            pytest.skip(f"no container boots here: {made.log()}")
        yield made
    finally:
        made.end()


def main_process(machine: Machine, other_than: str = "0") -> str:
    """The main process of the service that is ready, once it is another one."""
    return str(
        machine.until(
            lambda: (
                machine.show("ActiveState") == "active"
                and (found := machine.show("MainPID")) not in ("", "0", other_than)
                and found
            )
        )
    )


def findings(machine: Machine) -> int:
    """How many it has made, as its own command says."""
    said = machine.run(
        "PYTHONPATH=/opt/source:/opt/packages setpriv --reuid scanwright --clear-groups"
        " /opt/scanwright/bin/scanwright agent status --json --config /etc/scanwright/agent.yaml"
    )
    return said.count('"case_code"')


def test_it_is_ready_and_comes_back_with_what_it_had_from_a_hang_and_from_a_kill(
    machine: Machine, tmp_path: Path, picture: Any
) -> None:
    first = main_process(machine)
    assert machine.show("Result") == "success" and machine.show("NRestarts") == "0"
    assert machine.run(f"stat -c %U /proc/{first}") == "scanwright"
    cv2.imwrite(str(tmp_path / "images" / "one.png"), picture("lesion", 1))
    machine.until(lambda: findings(machine) == 1)

    # It hangs: fed no more, the watchdog ends it and another begins where it was.
    machine.run(f"kill -STOP {first}")
    second = main_process(machine, first)
    assert "Watchdog timeout" in machine.journal()
    assert findings(machine) == 1
    machine.run(f"kill -KILL {second}")
    third = main_process(machine, second)
    assert machine.show("NRestarts") == "2"
    cv2.imwrite(str(tmp_path / "images" / "two.png"), picture("lesion", 3))
    machine.until(lambda: findings(machine) == 2)

    # Asked to, it reads its configuration again and stays; and it ends when told to.
    assert machine.run(f"systemctl reload {SERVICE} && echo done") == "done"
    assert main_process(machine) == third
    assert machine.run(f"systemctl stop {SERVICE} && echo done") == "done"
    assert (machine.show("ActiveState"), machine.show("Result")) == ("inactive", "success")


def test_a_stick_that_is_mounted_later_is_seen_and_written_by_the_service(machine: Machine) -> None:
    main_process(machine)
    owner = "uid=$(id -u scanwright),gid=$(id -g scanwright),mode=700"
    machine.run(f"mkdir -p /media/scanwright && mount -t tmpfs -o {owner} none /media/scanwright")
    machine.run("cp -r /srv/stick/. /media/scanwright && chown -R scanwright: /media/scanwright")
    find = "find /media/scanwright/scanwright/parcels -name '*.age'"
    machine.until(lambda: machine.run(find))
    assert machine.run("umount /media/scanwright && echo done") == "done", (
        "nothing holds a stick that is done"
    )
