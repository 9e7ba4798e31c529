"""Some hours of a busy cart, each with its fault, in seconds; the whole day is ``benchmarks/day.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def test_hours_with_a_fault_each_lose_nothing_and_leave_nothing_open(mosquitto):
    mosquitto()  # or this is skipped
    command = [sys.executable, str(ROOT / "benchmarks" / "day.py"), "--hours", "6", "--speed", "1200"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert result["images"] > 50 and result["lost"] == result["waiting"] == 0
    assert result["growth_descriptors"] <= 4
