from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.agent import store
from edge.agent.config import load_config
from edge.agent.database import Database
from edge.agent.outbox import Outbox
from edge.agent.state import DATABASE, lock_state
from edge.cli import main
from edge.errors import ScanwrightError


@pytest.fixture
def config(tmp_path: Path, tiny_bundle) -> Callable[..., str]:
    """``config(**changes)``: path of a valid configuration with changes; None removes a key."""
    tiny_bundle(tmp_path / "tiny.swb")
    (tmp_path / "in").mkdir()

    def write(**changes: Any) -> str:
        said = {
            "site": "clinic",
            "device": "cart-1",
            "state": "state",
            "bundles": ["tiny.swb"],
            "allow_unsigned": True,
            "sources": [{"kind": "folder", "path": "in"}],
            "mqtt": {"port": 9},
            "screen": None,
        } | changes
        path = tmp_path / "agent.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in said.items() if value is not ...}))
        return str(path)

    return write


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["agent", *arguments])
    out = capsys.readouterr()
    return int(exit_.value.code or 0), out.out, out.err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"allow_unsigned": False}, ["tiny.swb", "allow_unsigned: true"]),
        ({"target": "jetson-orin-nano"}, ["tiny.swb", "raspberry-pi-5", "jetson-orin-nano"]),
        ({"bundles": ["none.swb"]}, ["none.swb"]),
        ({"bundles": ["tiny.swb", "tiny.swb"]}, ["bundles", "tiny"]),
        ({"mqtt": {"prt": 1}}, ["agent.yaml", "mqtt.prt", "did you mean 'port'"]),
        ({"mqtt": {"password_file": "none"}}, ["password_file", "none"]),
        ({"mqtt": {"tls": {"ca": "none.pem"}}}, ["mqtt.tls", "none.pem"]),
        ({"sources": []}, ["agent.yaml", "sources"]),
        ({"update": {"root": "none.json", "repositories": ["r"]}}, ["none.json", "cannot be read"]),
        ({"update": {"root": "agent.yaml", "repositories": ["r"]}}, ["agent.yaml", "no root.json"]),
        (
            {"update": {"root": "r", "repositories": ["r", "ftp://updates.example/r"]}},
            ["agent.yaml", "update.repositories.1", "'ftp://updates.example/r'", "http or https"],
        ),
        ({"update": {"root": "r", "repositories": ["https://"]}}, ["update.repositories.0", "'https://'"]),
        ({"site": ...}, ["agent.yaml", "site"]),
    ],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_wrong_configuration_is_one_line_and_exit_2(capsys, config, command, changes, words):
    code, _, err = run(capsys, command, "--config", config(**changes))
    assert code == 2
    assert len(err.splitlines()) == 1 and all(word in err for word in words), err


def test_a_state_folder_that_cannot_be_is_named(capsys, config):
    code, _, err = run(capsys, "check", "--config", config(state="agent.yaml"))
    assert code == 2 and "state: " in err and "is no folder that may be written" in err


def test_a_key_that_is_there_twice_is_named_with_its_line(capsys, config):
    path = Path(config())
    path.write_text(path.read_text() + "site: other\n")
    code, _, err = run(capsys, "check", "--config", str(path))
    assert code == 2 and f"at line {len(path.read_text().splitlines())}: 'site' is there twice" in err


def test_check_tries_all_and_says_what_is_not_there_yet(capsys, config, tmp_path):
    code, out, err = run(capsys, "check", "--config", config())
    assert (code, err) == (0, "")
    assert "ok    bundle tiny 1.0.0" in out and "NOT SIGNED" in out and "ok    source folder" in out
    assert re.search(r"wait  broker .* not there", out)
    assert not (tmp_path / "state").exists()


def test_status_of_an_agent_that_never_ran(capsys, config):
    code, out, err = run(capsys, "status", "--config", config())
    assert (code, err) == (1, "") and "not running" in out


def test_status_says_what_waits_and_what_was_found(capsys, config, tmp_path):
    path = config()
    (tmp_path / "state").mkdir()
    database = Database(tmp_path / "state" / DATABASE)
    finding = {
        "id": "a" * 32,
        "stamp": {"at": "2026-11-01T00:00:00Z"},
        "case_code": "7K2M-Q4XP",
        "decision": "no_result",
        "label": None,
        "probability": None,
        "reasons": ["blurred"],
    }
    database.write(lambda c: store.add(c, "a" * 32, json.dumps(finding), None, None))
    Outbox(database).put("finding", "a" * 32, "t", b"").result()
    database.close()
    _, out, _ = run(capsys, "status", "--config", path)
    assert "waiting: 1 findings" in out and "7K2M-Q4XP  no_result  blurred" in out
    with lock_state(tmp_path / "state"):
        code, out, _ = run(capsys, "status", "--json", "--config", path)
    said = json.loads(out)
    assert code == 0 and said["pid"] and said["waiting"]["finding"] == 1
    assert said["findings"][0]["delivered"] is False


def test_a_held_state_folder_is_refused_and_free_after(tmp_path):
    with (
        lock_state(tmp_path),
        pytest.raises(ScanwrightError, match="in use by another agent"),
        lock_state(tmp_path),
    ):
        pass
    with lock_state(tmp_path):
        pass


def test_a_state_folder_that_cannot_be_made_is_exit_2(capsys, config, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = run(capsys, "run", "--config", config(state="file/state"))
    assert code == 2 and "state" in err


def test_relative_paths_are_taken_from_the_file_s_folder(config, tmp_path):
    path = config(
        sources=[
            {"kind": "folder", "path": "in"},
            {"kind": "capture", "name": "clip", "url": "clip.avi"},
            {"kind": "capture", "name": "net", "url": "rtsp://camera/1"},
            {"kind": "capture", "name": "cam", "url": 0},
        ],
        mqtt={"password_file": "password", "tls": {"ca": "/etc/ca.pem"}},
    )
    found = load_config(Path(path))
    assert found.state == tmp_path / "state"
    assert found.bundles == (tmp_path / "tiny.swb",)
    assert found.sources[0].path == tmp_path / "in"
    assert [s.url for s in found.sources[1:]] == [str(tmp_path / "clip.avi"), "rtsp://camera/1", 0]
    assert found.mqtt.password_file == tmp_path / "password"
    assert found.mqtt.tls.ca == Path("/etc/ca.pem") and found.mqtt.tls.certificate is None


@pytest.mark.parametrize("command", [[], ["run"], ["check"], ["status"]])
def test_every_command_shows_its_help_with_an_example(capsys, command):
    code, out, _ = run(capsys, *command, "--help")
    assert code == 0
    assert not command or "Example" in out
