"""Settings that headquarters changes from afar: a closed list, on trial until confirmed, with a way back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from edge.agent.commands import Scalar
from edge.agent.config import AgentConfig, Language, LogLevel, MeteredBytes, Overlays, ThresholdPolicy
from edge.errors import BadInputError, ScanwrightError
from edge.files import write_durably
from edge.schema import Contract, Label, Name, Probability, read

__all__ = ["TRIAL_S", "Settings", "SettingsFile", "applied", "changed"]

TRIAL_S = 600.0
"""Seconds that a change has to be confirmed in, counted from when it is in use."""

_FILE = "settings.json"
_THRESHOLD = "thresholds."


class Settings(Contract):
    """What may be changed from afar; None leaves what ``agent.yaml`` says.

    Where the cart connects to, what it trusts, where its images come from and go to are not among it: a
    message must not be able to lead a cart away.
    """

    policy: Name | None = Field(default=None, description="name of the thresholds; needed with them")
    thresholds: dict[Label, Probability] = {}
    overlays: Overlays | None = None
    language: Language | None = None
    log_level: LogLevel | None = None
    health_s: Annotated[float, Field(ge=1, le=86400)] | None = None
    study_silence_s: Annotated[float, Field(ge=1, le=3600)] | None = None
    keep_days: Annotated[float, Field(ge=1, le=3650)] | None = None
    metered_bytes_a_day: MeteredBytes | None = None


class _Kept(Contract):
    """``settings.json``. ``before`` is what the last confirmed settings were; ``trial`` says that
    ``settings`` are not confirmed yet."""

    schema_version: Literal[1] = 1
    revision: int = Field(default=0, ge=0)
    settings: Settings = Settings()
    before: Settings = Settings()
    trial: bool = False


def changed(settings: Settings, arguments: Mapping[str, Scalar]) -> Settings:
    """Settings with the named ones changed, a threshold as ``thresholds.LABEL``; None takes a change back.

    Raises:
        BadInputError: one is unknown, or its value is not allowed.
    """
    given: dict[str, Any] = settings.model_dump(mode="json")
    for key, value in arguments.items():
        if key.startswith(_THRESHOLD):
            label = key.removeprefix(_THRESHOLD)
            given["thresholds"].pop(label, None)
            if value is not None:
                given["thresholds"][label] = value
        elif key in given and key != "thresholds":
            given[key] = value
        else:
            known = sorted(Settings.model_fields.keys() - {"thresholds"} | {_THRESHOLD + "LABEL"})
            raise BadInputError(f"{key[:64]!r} cannot be changed from afar; {', '.join(known)} can")
    try:
        made = Settings.model_validate_json(json.dumps(given))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise BadInputError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
    if made.thresholds and made.policy is None:
        raise BadInputError("policy: name it, so that findings can say by which thresholds they were made")
    return made


def applied(config: AgentConfig, settings: Settings) -> AgentConfig:
    """The configuration with the settings over it."""
    said = settings.model_dump(exclude={"policy", "thresholds", "metered_bytes_a_day"}, exclude_none=True)
    if settings.policy is not None:
        said["policy"] = ThresholdPolicy(name=settings.policy, thresholds=settings.thresholds)
    if settings.metered_bytes_a_day is not None:
        said["mqtt"] = config.mqtt.model_copy(update={"metered_bytes_a_day": settings.metered_bytes_a_day})
    return config.model_copy(update=said)


class SettingsFile:
    """The settings in the state folder, whole whatever happens.

    A change counts only until it is confirmed. If nobody does in time, or the agent ends before, what was
    confirmed last comes back: settings that make a cart fall silent, or its agent fail, do not last.
    """

    def __init__(self, state: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Read them.

        Raises:
            BadInputError: the file is damaged.
        """
        self._path = state / _FILE
        self._kept = read(self._path, _Kept) if self._path.exists() else _Kept()
        self._monotonic, self._since = monotonic, monotonic()

    @property
    def current(self) -> Settings:
        """Those in use."""
        return self._kept.settings

    @property
    def revision(self) -> int:
        """Grows with each change, also with one that is taken back."""
        return self._kept.revision

    @property
    def trial(self) -> bool:
        """Whether those in use are not confirmed yet."""
        return self._kept.trial

    def overdue(self) -> bool:
        """Whether the trial has lasted too long."""
        return self.trial and self._monotonic() - self._since > TRIAL_S

    def change(self, settings: Settings) -> None:
        """Put other settings on trial.

        Raises:
            ScanwrightError: they cannot be written; nothing has changed.
        """
        before = self._kept.before if self.trial else self.current
        self._keep(settings=settings, before=before, trial=True)

    def confirm(self, revision: int) -> None:
        """Keep the settings that are on trial.

        Raises:
            BadInputError: none are, or those of another revision.
            ScanwrightError: that cannot be written.
        """
        if not self.trial or revision != self.revision:
            what = f"revision {self.revision} is" if self.trial else "nothing is"
            raise BadInputError(f"revision: {what} on trial")
        self._write(self._kept.model_copy(update={"trial": False}))

    def revert(self) -> None:
        """Go back to the settings that were confirmed before these.

        Raises:
            ScanwrightError: that cannot be written.
        """
        self._keep(settings=self._kept.before, before=self.current, trial=False)

    def _keep(self, **said: object) -> None:
        self._write(self._kept.model_copy(update={"revision": self.revision + 1, **said}))
        self._since = self._monotonic()

    def _write(self, kept: _Kept) -> None:
        try:
            write_durably(self._path, kept.model_dump_json(exclude_none=True).encode())
        except OSError as error:
            raise ScanwrightError(f"the settings cannot be kept ({error.strerror})") from error
        self._kept = kept
