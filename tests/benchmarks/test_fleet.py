"""A minute's share of what ``benchmarks/fleet.py`` measures at length: every part of it works."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_a_small_fleet_is_measured(tmp_path):
    if shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin") is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    size = ["--carts", "20", "--messages", "400", "--seconds", "4", "--connections", "5", "--storm", "20"]
    command = [
        sys.executable,
        "benchmarks/fleet.py",
        *size,
        "--store",
        "postgresql",
        "--json",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out").read_text())
    assert found["capacity"]["headroom"] > 0 and found["capacity"]["messages"] == 400
    assert found["steady"]["messages"] > 0 and found["steady"]["latency_s_most"] > 0
    assert found["storm"]["connections"] == 20
