"""The scripts that a card carries: shells take them, and they do what the injection relies on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

CARD = Path(__file__).parents[2] / "firmware_configs/card"


@pytest.mark.parametrize("name", ["first-boot", "kiosk", "overlay-init", "power-guard"])
def test_a_shell_takes_every_line(name):
    assert (CARD / name).read_text().startswith("#!/bin/sh\n")
    done = subprocess.run(["sh", "-n", CARD / name], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_root_that_cannot_be_protected_still_starts():
    text = (CARD / "overlay-init").read_text()
    assert "exec /sbin/init" in text.partition("usual() {")[2].partition("}")[0]
    for line in text.splitlines():
        if line.startswith(("mount -t tmpfs", "mkdir ", "cd ")):
            assert "|| usual" in line, line


def test_keys_do_not_stay_on_the_boot_partition():
    lines = (CARD / "first-boot").read_text().splitlines()
    installed = next(n for n, line in enumerate(lines) if "dpkg --install" in line)
    removed = next(n for n, line in enumerate(lines) if line.startswith("rm -f") and ".deb" in line)
    assert removed > installed and "sync" in lines[removed - 1 : removed + 2]


@pytest.mark.parametrize(
    ("status", "percent", "stops"),
    [
        ("Discharging", "10", True),
        ("Discharging", "11", False),
        ("Charging", "3", False),
        ("Full", "", False),
    ],
)
def test_a_cart_stops_when_the_battery_it_runs_on_has_a_tenth_left(tmp_path, status, percent, stops):
    (tmp_path / "ups").mkdir()
    (tmp_path / "ups/status").write_text(f"{status}\n")
    (tmp_path / "ups/capacity").write_text(f"{percent}\n")
    environment = {"PATH": "/usr/bin:/bin", "SUPPLIES": str(tmp_path), "STOP": "echo poweroff"}
    script = ["timeout", "1", "sh", CARD / "power-guard"]
    done = subprocess.run(script, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode == 0, "poweroff" in done.stdout) == (stops, stops)


def test_what_started_the_first_time_is_taken_out_of_the_kernels_line(tmp_path):
    text = (CARD / "first-boot").read_text()
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith("words=$(sed")]
    kept = "console=tty1 root=PARTUUID=1-02 rootwait quiet"
    once = (
        "systemd.run=/boot/firmware/firstrun.sh systemd.run_success_action=reboot"
        " systemd.run_failure_action=reboot systemd.unit=kernel-command-line.target init=/usr/lib/x"
    )
    (tmp_path / "cmdline.txt").write_text(f"{kept} {once}\n")
    script = f'cmdline={tmp_path}/cmdline.txt; {line}; echo "$words"'
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{kept}\n"
