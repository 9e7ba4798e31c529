"""The rules of a slot, whatever the order of what happens, and the launcher as the program that it is."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.update import launch
from edge.update.launch import TRIES, State, read_state, write_state

A, B, C = "1.0.0-aaaaaaaaaaaa", "1.1.0-bbbbbbbbbbbb", "1.2.0-cccccccccccc"
STEPS = st.lists(st.sampled_from(["begin", "start", "commit", "fail", "back", "refuse", "told", "want"]))


def step(state: State, name: str, version: str) -> State:
    if name == "begin":
        return state if state.trial else state.begin(version)
    arguments = {"fail": ["slow"], "back": ["command"], "refuse": ["1.3.0", "expired"], "want": [None]}
    if name == "back" and not state.trial and state.previous is None:
        return state
    return getattr(state, name)(*arguments.get(name, []))


def test_a_trial_that_is_committed_keeps_the_one_before():
    state = State(current=A).begin(B).start().commit()
    assert (state.used, state.previous, state.trial) == (B, A, None)
    assert state.result.what == "committed" and state.result.version == "1.1.0"
    assert state.back("command").used == A


def test_a_trial_has_three_starts_and_then_the_one_before_is_used():
    state = State(current=A, previous=C).begin(B)
    for _ in range(TRIES):
        state = state.start()
        assert state.used == B
    state = state.start()
    assert (state.used, state.previous) == (A, C)
    assert (state.result.what, state.result.reason, state.result.told) == ("rolled_back", "crashed", False)


@given(STEPS)
def test_whatever_happens_what_is_used_is_kept_and_was_put_there(steps):
    state, known = State(current=A), {A}
    for number, name in enumerate(steps):
        version = f"2.{number}.0-dddddddddddd"
        before, state = state, step(state, name, version)
        known |= {version}
        assert state.used in state.kept <= known
        # A version becomes the present one only by a trial, or by going back to it.
        assert state.current in (before.current, before.trial, before.previous)


@given(STEPS)
def test_a_state_is_read_as_it_was_written(tmp_path_factory, steps):
    folder, state = tmp_path_factory.mktemp("slot"), State(current=A)
    for name in steps:
        state = step(state, name, B)
    write_state(folder, state)
    assert read_state(folder) == state


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"current": 1}', '{"current": "../x", "result": null}', '{"result": {}}']
)
def test_a_damaged_state_is_noticed(tmp_path, text):
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(ValueError, match="is no state"):
        read_state(tmp_path)


@pytest.fixture
def slot(tmp_path):
    """A slot with two agents that say who they are, and a base."""
    for name in (A, B):
        program(tmp_path / "versions" / name / "bin/scanwright", name)
    program(tmp_path / "base", "base")
    return tmp_path


def program(path: Path, says: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "{says} $*"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def started(slot: Path) -> str:
    command = [sys.executable, "-I", "-S", launch.__file__, str(slot), str(slot / "base"), "agent", "run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    who, *arguments = done.stdout.split()
    assert arguments == ["agent", "run"]
    return who


def test_the_launcher_starts_what_was_installed_while_its_slot_is_empty(slot):
    assert started(slot) == "base"


def test_the_launcher_counts_the_starts_of_a_trial_and_goes_back(slot):
    write_state(slot, State(current=A).begin(B))
    assert [started(slot) for _ in range(TRIES + 2)] == [B, B, B, A, A]
    assert read_state(slot).result.reason == "crashed"
    write_state(slot, State().begin(B))
    assert [started(slot) for _ in range(TRIES + 1)] == [B, B, B, "base"]


def test_the_launcher_starts_something_whatever_is_broken(slot):
    write_state(slot, State(current=A).begin(B))
    (slot / "versions" / B / "bin/scanwright").unlink()
    assert started(slot) == "base"
    (slot / "state.json").write_text("{")
    assert started(slot) == "base"
