"""The checks check: CI runs what the README says, and a skipped integration test fails there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SUITE = """
import pytest

@pytest.mark.integration
def test_real_broker():
    pytest.skip("mosquitto is not installed")

@pytest.mark.slow
def test_slow():
    pass

def test_needs_data_that_may_be_absent():
    pytest.skip("no data")
"""


@pytest.fixture
def run_suite(tmp_path):
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "test_suite.py").write_text(SUITE, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  integration:\n  slow:\n", encoding="utf-8")

    def run(require_all: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", str(tmp_path)],
            env={**os.environ, "SCANWRIGHT_REQUIRE_ALL": require_all},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def test_a_skipped_integration_test_fails_where_every_part_is_present(run_suite):
    done = run_suite("1")
    assert done.returncode == 1
    assert "1 failed, 1 passed, 1 skipped" in done.stdout
    assert "mosquitto is not installed" in done.stdout


def test_elsewhere_it_skips_and_the_fast_tests_run_first(run_suite):
    done = run_suite("")
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if "::test_" in line]
    order = [line.split("::")[1].split()[0] for line in lines]
    assert order == ["test_needs_data_that_may_be_absent", "test_slow", "test_real_broker"]


def test_ci_runs_the_commands_of_the_readme():
    script = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("make test", "make demo"):
        assert command in script
        assert command in readme
    assert os.access(ROOT / ".ci/run", os.X_OK)
