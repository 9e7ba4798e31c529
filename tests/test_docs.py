"""The documentation can be followed: commands exist, files parse, links lead somewhere.

Commands that train, serve or need another machine are checked against the command line's own parser, not run;
blocks marked ``console run`` are run, in order, in one shell.
"""

from __future__ import annotations

import ast
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from edge.agent.config import AgentConfig
from edge.cli import cli
from edge.schema import parse
from edge.site import Site
from trainer.recipe import Recipe

ROOT = Path(__file__).parents[1]
PAGES = list(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md"))
FILES = {"agent.yaml": AgentConfig, "recipe.yaml": Recipe, "SITE.yaml": Site}
OUTSIDE = {
    ".",
    "docker",
    "export",
    "install",
    "mkdir",
    "mosquitto_sub",
    "promtool",
    "python3",
    "rsync",
    "sudo",
    "systemctl",
    "useradd",
    "/opt/scanwright/bin/pip",
}
"""First words of commands that are not ours: only that no other slips in is checked."""


def blocks(language: str) -> list[tuple[Path, str]]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found += [(page, block) for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)]
    return found


def command_lines() -> list[tuple[str, str]]:
    return [
        (page.relative_to(ROOT).as_posix(), line[2:])
        for page, block in blocks(r"console(?: run)?")
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_a_documented_command_is_one_that_exists(page, line):
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        targets = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        assert set(words[1:]) <= set(targets[0].split()), f"{page}: {line}"
    elif words[0] == "scanwright":
        accepts(words[1:])
    else:
        assert words[0] in OUTSIDE, f"{page}: {line}"


def accepts(words: list[str]) -> None:
    """Parse as the command line does, without running; unknown or missing arguments fail."""
    context = click.Context(cli, info_name="scanwright")
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, f"no command {name}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    options, extra, _ = command.make_parser(context).parse_args(words)
    given = {name for name, value in options.items() if value and isinstance(value, str | tuple | list)}
    missing = [p.name for p in command.params if p.required and p.name not in given]
    assert not extra, f"extra: {extra}"
    assert not missing, f"missing: {missing}"


def test_the_check_refuses_what_does_not_exist():
    with pytest.raises(click.UsageError):
        accepts(["targets", "--no-such-option"])
    with pytest.raises(AssertionError, match="no command"):
        accepts(["no-such-command"])
    with pytest.raises(AssertionError, match="missing"):
        accepts(["inspect"])


@pytest.mark.parametrize(("page", "block"), blocks("yaml"))
def test_a_documented_file_parses(page, block):
    name = block.splitlines()[0].removeprefix("# ")
    assert name in FILES, f"{page}: begin the block with '# agent.yaml', '# recipe.yaml' or '# SITE.yaml'"
    parse(block, FILES[name], name)


def test_marked_blocks_run(tmp_path):
    script = "\n".join(
        line[2:] for _, block in blocks("console run") for line in block.splitlines() if line.startswith("$ ")
    )
    assert script
    done = subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_that_exist(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", text):
        if link and "://" not in link:
            assert (page.parent / link).exists(), f"{link} is not there"


def test_every_event_the_agent_tells_is_documented():
    page = (ROOT / "docs/reference/mqtt.md").read_text(encoding="utf-8")
    told = set()
    for path in [*(ROOT / "edge/agent").glob("*.py"), *(ROOT / "edge/sources").glob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call):
                told |= event_codes(call)
    assert {"quarantined", "broker_lost", "source_lost"} <= told
    assert not {code for code in told if f"`{code}`" not in page}


def event_codes(call: ast.Call) -> set[str]:
    """The texts that follow a severity among a call's arguments."""
    after = [
        code
        for severity, code in itertools.pairwise(call.args)
        if isinstance(severity, ast.Constant) and severity.value in ("info", "warning", "error")
    ]
    return {part.value for code in after for part in ast.walk(code) if isinstance(part, ast.Constant)}


def test_every_hazard_names_tests_that_exist():
    page = (ROOT / "docs/explanation/hazards.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \*\*[ABCD]\*\* \|.*$", page, re.M)
    assert len(rows) > 20
    for row in rows:
        _, _, hazard, control, proof, _ = map(str.strip, row.split("|"))
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", proof)
        assert hazard and control and named, row
        for path, name in named:
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (
                f"{path}::{name}"
            )


def test_the_limits_of_use_are_said_where_a_user_looks():
    for place in ("README.md", "docs/index.md"):
        assert re.search(r"not a medical device", (ROOT / place).read_text(encoding="utf-8"), re.I)
    assert "decision support" in cli.get_help(click.Context(cli))
