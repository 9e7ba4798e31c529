"""The unit that runs the agent on a cart: systemd itself reads it and scores what it still may do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.bundle.target import target_names
from edge.cli import cli

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "firmware_configs/systemd"
UNIT = UNITS / "scanwright-agent.service"
PROGRAM = "/opt/scanwright/bin/scanwright"


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(
    params=[
        "scanwright-agent.service",
        "scanwright-clock.service",
        "scanwright-firewall.service",
        "scanwright-power.service",
    ]
)
def unit(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A unit with a program that is on this machine, too."""
    path = tmp_path / request.param
    path.write_text(
        (UNITS / request.param)
        .read_text()
        .replace(PROGRAM, "/bin/true")
        .replace("/usr/sbin/nft", "/bin/true")
        .replace("/usr/lib/scanwright/power-guard", "/bin/true")
    )
    return path


def test_systemd_takes_every_line_of_the_unit(unit):
    done = analyze("verify", "--recursive-errors=yes", unit)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_takes_every_line_of_the_kiosk_whose_browser_reaches_this_machine_alone(tmp_path):
    text = (UNITS / "scanwright-kiosk.service").read_text()
    path = tmp_path / "scanwright-kiosk.service"
    path.write_text(text.replace("/usr/lib/scanwright/kiosk", "/bin/true"))
    done = analyze("verify", "--recursive-errors=yes", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nIPAddressDeny=any\nIPAddressAllow=localhost\n" in text
    assert "\nProtectSystem=strict\nProtectHome=yes\n" in text


def test_the_check_notices_a_misspelt_line(unit):
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in analyze("verify", "--recursive-errors=yes", unit).stderr


def test_the_service_may_do_little(unit):
    done = analyze("security", "--offline=true", "--no-pager", unit)
    (score,) = re.findall(r"Overall exposure level for \S+: (\d+\.\d+)", done.stdout)
    assert float(score) < 2.0


def lines(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.M)


def test_it_runs_a_command_that_exists_and_comes_back_from_any_end():
    program, group, command, *options = lines("ExecStart")[0].split()
    assert program == PROGRAM
    assert cli.get_command(None, group).commands[command].make_context(command, options)
    assert lines("Restart") == ["always"] and lines("StartLimitIntervalSec") == ["0"]
    assert lines("Type") == ["notify"] and int(lines("WatchdogSec")[0]) <= 120


def test_it_may_still_ask_whether_the_clock_is_kept_and_where_the_boot_is_named():
    # glibc asks by clock_adjtime; ProtectClock= would refuse it, and no clock were ever trusted.
    assert "clock_adjtime" in lines("SystemCallFilter")[-1] and not lines("ProtectClock")
    # /proc/sys/kernel/random/boot_id, /proc/loadavg and /proc/meminfo
    assert not lines("ProcSubset")


def test_only_a_labelled_stick_is_mounted_and_nothing_on_it_is_run(tmp_path):
    mount = UNITS / "media-scanwright.mount"
    done = analyze("verify", "--recursive-errors=no", mount)
    assert (done.returncode, done.stderr) == (0, "")
    said = dict(re.findall(r"^(\w+)=(.*)$", mount.read_text(), re.M))
    assert {"nosuid", "nodev", "noexec"} < set(said["Options"].split(","))
    assert mount.stem == said["Where"].lstrip("/").replace("/", "-"), "systemd wants the unit named so"
    rules = [
        line
        for line in (UNITS / "60-scanwright-stick.rules").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    (rule,) = rules
    for condition in ('ENV{ID_BUS}=="usb"', 'ENV{ID_FS_LABEL}=="SCANWRIGHT"', f'"{mount.name}"'):
        assert condition in rule


def test_it_is_no_target():
    assert not [name for name in target_names() if "agent" in name or "systemd" in name]
