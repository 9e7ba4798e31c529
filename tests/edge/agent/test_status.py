"""``scanwright agent status`` tells people and health checks whether an agent runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.agent.cli import agent
from edge.agent.state import lock_state
from edge.update.launch import Result, State, write_state

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "agent.yaml"
    path.write_text(
        "{site: test, device: cart-1, state: state, bundles: [x.swb], sources: [{kind: folder, path: inbox}]}"
    )
    return path


def test_status_fails_where_no_agent_runs(config):
    done = CliRunner().invoke(agent, ["status", "--config", str(config)])
    assert done.exit_code == 1
    assert "not running" in done.output


def test_status_is_well_while_one_holds_the_state(config):
    with lock_state(config.parent / "state"):
        done = CliRunner().invoke(agent, ["status", "--config", str(config), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.output)["pid"]


def test_status_says_what_updates_have_done(config):
    text = config.read_text().replace("[x.swb]", "[{slot: chest}, {slot: heart}]")
    config.write_text(text[:-1] + ", update: {repositories: [r], root: r, agent: true}}")
    folder = config.parent / "state/slots/chest"
    folder.mkdir(parents=True)
    result = Result("rolled_back", "1.2.0", "slow")
    write_state(folder, State(current="1.1.0-aaaaaaaaaaaa", previous="1.0.0-bbbbbbbbbbbb", result=result))
    done = CliRunner().invoke(agent, ["status", "--config", str(config)])
    assert "slot chest: 1.1.0; 1.2.0 was rolled back (slow)" in done.output
    assert "slot heart: nothing yet" in done.output and "slot agent: the installed agent" in done.output
    said = json.loads(CliRunner().invoke(agent, ["status", "--config", str(config), "--json"]).output)
    assert said["slots"]["chest"]["previous"] == "1.0.0"


def test_the_containers_health_check_is_this_command():
    dockerfile = (ROOT / "Dockerfile.arm64").read_text(encoding="utf-8")
    (check,) = re.findall(r"HEALTHCHECK .*\\\n\s+CMD (\[.*\])", dockerfile)
    program, group, *words = json.loads(check)
    assert (program, group, words[0]) == ("scanwright", "agent", "status")
    assert agent.commands["status"].make_context("status", words[1:])
