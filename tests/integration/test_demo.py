"""``scanwright demo --quick`` as a user runs it: real agent, embedded broker, screen; and it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

DEMO = [sys.executable, "-m", "edge.cli", "demo"]
GENEROUS_S = 120  # half a minute is meant; a busy machine gets more


def _agents(folder: Path) -> list[int]:
    """Processes that were started with a configuration below ``folder``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        if b"agent\0run" in command and os.fsencode(folder) in command:
            found.append(int(entry.parent.name))
    return found


def test_quick_demo_shows_right_findings_refuses_the_clip_and_ends(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    for _ in range(2):  # again into the same folder
        result = subprocess.run(
            [*DEMO, "--quick", "--out", str(out)],
            capture_output=True,
            text=True,
            timeout=GENEROUS_S,
            check=False,
            env=os.environ | {"COLUMNS": "120"},
        )
        assert result.returncode == 0, result.stdout + result.stderr
    right, answered, withheld, phantoms = map(
        int, re.search(r"(\d+) right of (\d+) answered, (\d+) of (\d+) withheld", result.stdout).groups()
    )
    assert phantoms == 20
    assert answered + withheld == phantoms
    assert right >= 0.9 * answered >= 0.9 * 15
    assert "30 of 30 frames refused (frozen, not_covered)" in result.stdout
    assert "No TensorFlow is loaded in it." in result.stdout
    assert "Not a medical device" in result.stdout
    for column in ("DICOM MONO1", "PNG", "effusion", "ultrasound clip"):
        assert column in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert not _agents(out)
    # The agent stopped in good order: the last line of its log says so.
    assert '"stopped"' in (out / "cart" / "agent.log").read_text().strip().splitlines()[-1]


def test_stay_keeps_the_screen_up_until_it_is_ended(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    process = subprocess.Popen(
        [*DEMO, "--quick", "--stay", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout
        url = ""
        for line in process.stdout:
            found = re.search(r"The screen stays at (http://127\.0\.0\.1:\d+/)", line)
            if found:
                url = found[1]
                break
        assert url
        page = urllib.request.urlopen(url, timeout=10).read().decode()
        assert 'class="result' in page
        assert "Unsigned model" in page
        assert _agents(out)
        second = subprocess.run(
            [*DEMO, "--quick", "--out", str(out)], capture_output=True, text=True, timeout=60, check=False
        )
        assert second.returncode == 2
        assert "a demo is running there" in second.stderr
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 10
    while _agents(out) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _agents(out)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    result = subprocess.run(
        [*DEMO, "--quick", "--out", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "holds something that is not from a demo" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
