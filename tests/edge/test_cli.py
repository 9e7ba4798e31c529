"""The command line: errors become one line and an exit code; commands are loaded only when used."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points

import click
import pytest

import edge.cli
from edge import __version__
from edge.errors import BadInputError, ScanwrightError


def scanwright(*args: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge.cli", *args], capture_output=True, text=True, timeout=60, **options
    )


@pytest.fixture
def fail_with(monkeypatch):
    """Run a command that raises; give back its exit status."""

    def run(error: BaseException, *options: str) -> int:
        @click.command()
        def boom() -> None:
            raise error

        monkeypatch.setattr(edge.cli.cli, "get_command", lambda ctx, name: boom)
        with pytest.raises(SystemExit) as stopped:
            edge.cli.main([*options, "boom"])
        return stopped.value.code

    return run


def test_version_is_the_packages():
    done = scanwright("--version")
    assert (done.returncode, done.stdout) == (0, f"scanwright, version {__version__}\n")


def test_help_lists_every_command_with_a_summary_and_imports_none():
    code = (
        "import sys, edge.cli\n"
        "try: edge.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'cv2', 'pydantic', 'rich', 'yaml', 'tensorflow', 'starlette', 'trainer'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "HEAVY []" in done.stdout, done.stderr
    for name in entry_points(group="scanwright.commands").names:
        assert edge.cli.SUMMARIES[name][:30] in done.stdout


def test_the_commands_of_agent_and_monitor_load_a_broker_client_only_when_they_speak_to_one():
    code = (
        "import sys, edge.agent.cli, edge.monitor.cli, edge.keys.cli\n"
        "heavy = {'numpy', 'cv2', 'paho', 'pydicom', 'starlette'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "HEAVY []\n", done.stderr


def test_an_agent_is_ready_before_it_loads_what_only_the_first_dicom_file_needs():
    code = "import sys, edge.agent.supervisor, edge.agent.screen; print('pydicom' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


def test_summaries_are_of_commands_that_exist():
    assert set(edge.cli.SUMMARIES) == entry_points(group="scanwright.commands").names


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ScanwrightError("the broker is not there"), 1, "error: the broker is not there\n"),
        (
            BadInputError("agent.yaml: mqtt.prot: unknown key"),
            2,
            "error: agent.yaml: mqtt.prot: unknown key\n",
        ),
        (ScanwrightError("first\nsecond"), 1, "error: first second\n"),
        (PermissionError(13, "Permission denied", "/out/run"), 1, "error: /out/run: Permission denied\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
    ],
)
def test_an_error_is_one_line_and_a_status(fail_with, capsys, error, status, line):
    assert fail_with(error) == status
    assert capsys.readouterr().err == line


def test_an_unexpected_error_names_its_type_and_the_way_to_more(fail_with, capsys):
    assert fail_with(ZeroDivisionError("secret of the implementation")) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "ZeroDivisionError" in shown
    assert "--debug" in shown


def test_debug_shows_the_traceback_and_keeps_the_line(fail_with, capsys):
    assert fail_with(BadInputError("site.yaml: no carts"), "--debug") == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("error: site.yaml: no carts\n")


def test_a_missing_extra_is_named_with_the_command_that_installs_it(fail_with, capsys):
    assert fail_with(ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow.keras")) == 1
    shown = capsys.readouterr().err
    assert "pip install 'scanwright[trainer]'" in shown
    assert shown.count("\n") == 1


def test_a_command_whose_module_is_missing_is_one_line(monkeypatch, capsys):
    gone = EntryPoint("gone", "edge.no_such_module:command", "scanwright.commands")
    monkeypatch.setattr(edge.cli, "_entry_points", lambda: {"gone": gone})
    with pytest.raises(SystemExit) as stopped:
        edge.cli.main(["gone"])
    assert stopped.value.code == 1
    assert "edge.no_such_module" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["no-such-command"], ["--no-such-option"], ["--debug", "nothing"]])
def test_a_usage_error_is_one_line_and_status_2(args):
    done = scanwright(*args)
    assert done.returncode == 2
    assert done.stderr.startswith("error: No such ")
    assert done.stderr.count("\n") == 1


def test_no_command_shows_help_with_status_2():
    done = scanwright()
    assert done.returncode == 2
    assert "Commands:" in done.stdout + done.stderr


def test_a_reader_that_closes_the_pipe_is_no_error():
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli", "--help"], stdout=write_end, stderr=subprocess.PIPE, timeout=60
    )
    os.close(write_end)
    assert done.stderr == b""
