from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def why_not() -> str | None:
    if os.geteuid():
        return "mounting an image needs root"
    for program in ("mkfs.ext4", "e2fsck", "mount", "umount", "mosquitto"):
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            return f"{program} is not installed"
    free = subprocess.run(["losetup", "-f"], capture_output=True, text=True, check=False)
    return (
        None if free.returncode == 0 and Path(free.stdout.strip()).exists() else "there are no loop devices"
    )


def test_power_cuts_leave_every_finding_that_was_told():
    if reason := why_not():
        pytest.skip(f"power cuts are not tried: {reason}")
    command = [sys.executable, str(ROOT / "benchmarks" / "power_cuts.py"), "--cuts", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["acknowledged"] > 0
    assert result["lost"] == result["damaged_databases"] == result["unclean_filesystems"] == 0
    assert result["missing_after_restart"] == 0
