"""The commands that change settings from afar, and what becomes of them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Literal

from edge.agent.audit import Audit
from edge.agent.commands import Handler, Scalar
from edge.agent.config import AgentConfig
from edge.agent.model import Model, check_policy
from edge.agent.recorder import Recorder
from edge.agent.settings import TRIAL_S, SettingsFile, applied, changed
from edge.errors import BadInputError

__all__ = ["Remote"]


class Remote:
    """Answers ``settings``, ``configure``, ``confirm`` and ``revert``, and ends a trial that nobody confirms.

    A change takes effect by a reload, for which ``reload`` is set.
    """

    def __init__(
        self,
        config: AgentConfig,
        file: SettingsFile,
        models: Sequence[Model],
        recorder: Recorder,
        audit: Audit,
        reload: threading.Event,
    ) -> None:
        """``config``: as the file says, without settings."""
        self._config, self._file, self._models = config, file, models
        self._recorder, self._audit, self._reload = recorder, audit, reload

    def handlers(self) -> dict[str, Handler]:
        """The commands, by name."""
        return {
            "settings": lambda _: self._said(),
            "configure": self._configure,
            "confirm": self._confirm,
            "revert": lambda _: self._back("headquarters took the last ones back", "info"),
        }

    def look(self) -> None:
        """Take settings back that were not confirmed in time."""
        if self._file.overdue() and not self._reload.is_set():
            self._back(f"those before are back: nobody confirmed within {TRIAL_S:.0f} s", "warning")

    def _configure(self, arguments: Mapping[str, Scalar]) -> dict[str, Scalar]:
        settings = changed(self._file.current, arguments)
        if settings == self._file.current:
            raise BadInputError("nothing would change")
        check_policy(self._models, applied(self._config, settings).policy)
        self._file.change(settings)
        self._audit.add("settings", {**arguments, "revision": self._file.revision})
        self._tell("info", "settings_changed", f"on trial for {TRIAL_S:.0f} s")
        self._reload.set()
        return self._said() | {"confirm_within_s": TRIAL_S}

    def _confirm(self, arguments: Mapping[str, Scalar]) -> dict[str, Scalar]:
        revision = arguments.get("revision")
        if not isinstance(revision, int):
            raise BadInputError("revision: give the number that 'configure' answered")
        self._file.confirm(revision)
        self._audit.add("settings_confirmed", {"revision": revision})
        self._tell("info", "settings_confirmed", "they stay")
        return self._said()

    def tell_reverted(self, why: str, severity: Literal["info", "warning"]) -> None:
        """Tell that settings were taken back."""
        self._audit.add("settings_reverted", {"revision": self._file.revision})
        self._tell(severity, "settings_reverted", why)

    def _back(self, why: str, severity: Literal["info", "warning"]) -> dict[str, Scalar]:
        self._file.revert()
        self.tell_reverted(why, severity)
        self._reload.set()
        return self._said()

    def _said(self) -> dict[str, Scalar]:
        """The settings that differ from the configuration, and where they are."""
        said: dict[str, Scalar] = self._file.current.model_dump(exclude={"thresholds"}, exclude_none=True)
        said |= {f"thresholds.{label}": value for label, value in self._file.current.thresholds.items()}
        return said | {"revision": self._file.revision, "trial": self._file.trial}

    def _tell(self, severity: Literal["info", "warning"], code: str, why: str) -> None:
        revision = self._file.revision
        message = f"settings, revision {revision}: {why}"
        self._recorder.tell(severity, code, message, {"revision": revision})
