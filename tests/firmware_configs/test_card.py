"""The scripts that a card carries: shells take them, and they do what the injection relies on."""

from __future__ import annotations

import re
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
    (tmp_path / "power_supply/ups").mkdir(parents=True)
    (tmp_path / "power_supply/ups/status").write_text(f"{status}\n")
    (tmp_path / "power_supply/ups/capacity").write_text(f"{percent}\n")
    environment = {"PATH": "/usr/bin:/bin", "CLASS": str(tmp_path), "STOP": "echo poweroff"}
    script = ["timeout", "1", "sh", CARD / "power-guard"]
    done = subprocess.run(script, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode == 0, "poweroff" in done.stdout) == (stops, stops)


def guarded(folder: Path, pause_s: float, timeout_s: int = 2) -> str:
    environment = {
        "PATH": "/usr/bin:/bin",
        "CLASS": str(folder),
        "PAUSE": str(pause_s),
        "STOP": "echo poweroff",
    }
    script = ["timeout", str(timeout_s), "sh", CARD / "power-guard"]
    return subprocess.run(script, capture_output=True, text=True, env=environment, check=False).stdout


def test_a_cart_stops_when_its_supply_stays_too_weak_and_not_for_a_dip(tmp_path):
    alarm = tmp_path / "hwmon/hwmon0/in0_lcrit_alarm"
    alarm.parent.mkdir(parents=True)
    alarm.write_text("1\n")
    assert guarded(tmp_path, 0.01, 60) == "the supply gives too little: stopping\npoweroff\n"
    assert guarded(tmp_path, 1) == ""
    alarm.write_text("0\n")
    assert guarded(tmp_path, 0.01) == ""
    assert float(re.findall(r"PAUSE:-(\d+)", (CARD / "power-guard").read_text())[0]) * 40 == 600


@pytest.mark.parametrize(
    ("once", "after"),
    [
        (
            " systemd.run=/boot/firmware/firstrun.sh systemd.run_success_action=reboot"
            " systemd.run_failure_action=reboot systemd.unit=kernel-command-line.target init=/usr/lib/x",
            "",
        ),
        (" network-config=disabled", " cloud-init=disabled"),
    ],
)
def test_what_started_the_first_time_is_taken_out_of_the_kernels_line(tmp_path, once, after):
    text = (CARD / "first-boot").read_text()
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith("words=$(sed")]
    kept = "console=tty1 root=PARTUUID=1-02 rootwait quiet"
    (tmp_path / "cmdline.txt").write_text(f"{kept}{once}\n")
    script = f'cmdline={tmp_path}/cmdline.txt; {line}; echo "$words"'
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{kept}{after}\n"


def test_the_table_of_file_systems_is_whole_even_if_it_was_spoiled_before(tmp_path):
    text = (CARD / "first-boot").read_text()
    block = text[text.index("    {\n        tr -d") : text.index("    mkdir -p /var/lib/scanwright")]
    fstab = tmp_path / "fstab"
    kept = "PARTUUID=1-01 /boot/firmware vfat defaults 0 2\n"
    fstab.write_bytes(kept.encode() + bytes(99) + b"LABEL=scanwright-data /var/lib")
    for _ in range(2):
        script = block.replace("/etc/fstab", str(fstab))
        subprocess.run(["sh", "-euc", script], check=True)
        first, second = fstab.read_text().splitlines()
        assert f"{first}\n" == kept
        assert second.startswith("LABEL=scanwright-data /var/lib/scanwright ext4 ") and second.endswith(
            " 0 2"
        )
