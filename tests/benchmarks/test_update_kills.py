"""A share of what ``benchmarks/update_kills.py`` does at length."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.edge.agent.test_power_cuts import why_not

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.integration


def test_an_update_killed_anywhere_leaves_what_was_signed():
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    cuts = "0" if why_not() else "5"
    command = [sys.executable, str(ROOT / "benchmarks/update_kills.py"), "--kills", "24", "--cuts", cuts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["positions"] > 400 and result["kills"] >= 24
    assert 0 < result["new"] < result["kills"]  # kills before and after the rename that decides
    assert result["invalid"] == result["stuck"] == result["forgotten"] == 0
