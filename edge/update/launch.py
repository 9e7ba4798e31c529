"""What a slot uses, as pure rules; and the launcher, which starts the agent that its slot says.

    python3 -I -S launch.py SLOT BASE ARGUMENT...

SLOT is the folder of the agent's slot, BASE the program that was installed with the system and is started
while the slot is empty, or if nothing in it can be. This one file needs the standard library alone and lies
outside of the slots: it must run when everything else is broken.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

__all__ = [
    "NEWEST",
    "STATE",
    "TRIES",
    "VERSIONS",
    "Result",
    "State",
    "read_state",
    "version_of",
    "write_state",
]

STATE, VERSIONS = "state.json", "versions"
NEWEST = "newest"
TRIES = 3
"""Starts that something on trial has to be committed in."""

_PROGRAM = "bin/scanwright"


@dataclass(frozen=True)
class Result:
    """What became of the last update (``committed``, ``refused`` or ``rolled_back``), of which version, why.

    ``told`` says that an event has told it.
    """

    what: Literal["committed", "refused", "rolled_back"]
    version: str
    reason: str | None = None
    told: bool = False


@dataclass(frozen=True)
class State:
    """What a slot uses: names of its ``versions``, ``VERSION-HASH``. ``current`` None: nothing, or the base.

    ``trial`` is used instead of ``current`` until it is committed or has used up its ``tries``. ``wanted`` is
    the version to update to, or ``newest``, until it is on trial or refused; then ``tries`` counts how often
    it began to be proven.
    """

    current: str | None = None
    previous: str | None = None
    trial: str | None = None
    tries: int = 0
    wanted: str | None = None
    result: Result | None = None

    def want(self, version: str | None) -> State:
        """Note what to update to; None is the newest."""
        return replace(self, wanted=version or NEWEST, tries=0)

    def prove(self, version: str) -> State:
        """Count that a version begins to be proven: that, too, may end the process."""
        return replace(self, wanted=version, tries=self.tries + 1)

    def begin(self, name: str) -> State:
        """Put a version on trial."""
        return replace(self, trial=name, tries=TRIES, wanted=None)

    def start(self) -> State:
        """Count a start; the trial ends with the last one that it had."""
        if self.trial is None:
            return self
        return replace(self, tries=self.tries - 1) if self.tries > 0 else self.fail("crashed")

    def commit(self) -> State:
        """Keep what is on trial; what was used before is the previous one."""
        if self.trial is None:
            return self
        done = Result("committed", version_of(self.trial))
        return State(current=self.trial, previous=self.current, result=done)

    def fail(self, reason: str) -> State:
        """End the trial; what was used before is used again."""
        if self.trial is None:
            return self
        return replace(
            self, trial=None, tries=0, result=Result("rolled_back", version_of(self.trial), reason)
        )

    def back(self, reason: str) -> State:
        """Go back to the previous version, which then has the present one as its previous."""
        if self.trial is not None:
            return self.fail(reason)
        left = Result("rolled_back", version_of(self.current or "0.0.0"), reason)
        return State(current=self.previous, previous=self.current, result=left)

    def refuse(self, version: str, reason: str) -> State:
        """Note that a version was not taken."""
        return replace(self, wanted=None, tries=0, result=Result("refused", version, reason))

    def told(self) -> State:
        """Note that the result was told."""
        return replace(self, result=self.result and replace(self.result, told=True))

    @property
    def used(self) -> str | None:
        """What is to be used now."""
        return self.trial or self.current

    @property
    def kept(self) -> set[str]:
        """Versions that must stay on the disk."""
        return {name for name in (self.current, self.previous, self.trial) if name}


def version_of(name: str) -> str:
    """``1.2.0`` of ``1.2.0-0a1b2c3d4e5f``."""
    return name.partition("-")[0]


def read_state(folder: Path) -> State:
    """The state of a slot; an empty one if there is none.

    Raises:
        ValueError: it is damaged, as a disk can do but no power cut.
        OSError: it cannot be read.
    """
    try:
        text = (folder / STATE).read_bytes()
    except FileNotFoundError:
        return State()
    try:
        said = json.loads(text)
        result = said.pop("result")
        state = State(**said, result=None if result is None else Result(**result))
        names = all(name is None or _safe(name) for name in (state.current, state.previous, state.trial))
        if names and isinstance(state.tries, int):
            return state
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    raise ValueError(f"{folder / STATE}: is no state of a slot")


def write_state(folder: Path, state: State) -> None:
    """Put a state in force by one rename, on the disk when this returns.

    Raises:
        OSError: it cannot be written; the one before stays in force.
    """
    new = folder / f"{STATE}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(json.dumps(asdict(state)).encode())
        file.flush()
        os.fsync(descriptor)
    new.replace(folder / STATE)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _safe(name: object) -> bool:
    return isinstance(name, str) and bool(name) and "/" not in name and not name.startswith(".")


def _started(folder: Path) -> str | None:
    """The version to start, its try counted; None is the base."""
    try:
        before = read_state(folder)
        state = before.start()
        if state != before:
            write_state(folder, state)
        return state.used
    except (OSError, ValueError) as error:
        sys.stderr.write(f"launch: {error}; the installed agent is started\n")
        return None


def _launch(folder: Path, base: str, arguments: list[str]) -> None:
    name = _started(folder)
    programs = [str(folder / VERSIONS / name / _PROGRAM)] if name else []
    for program in [*programs, base]:
        try:
            os.execv(program, [program, *arguments])
        except OSError as error:
            sys.stderr.write(f"launch: {program}: {error.strerror}\n")
    sys.exit(1)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: launch.py SLOT BASE ARGUMENT...")
    _launch(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
