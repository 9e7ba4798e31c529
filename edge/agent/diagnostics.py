"""The commands by which headquarters looks after a cart that nobody stands before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from edge.agent import logs
from edge.agent.commands import Handler, Scalar
from edge.agent.commissioning import Check, checked
from edge.agent.config import AgentConfig
from edge.agent.feeds import Feeds
from edge.agent.model import load_models
from edge.errors import BadInputError, ScanwrightError

__all__ = ["Diagnostics"]

_IDENTIFY_S, _MOST_IDENTIFY_S = 30.0, 600.0
_LINES = 200
_LOG_BYTES = 64 << 10  # of an answer, where the broker names no smaller packet
_ANSWER_BYTES = 512  # of an answer beside the log: topic, header and the other fields


class Diagnostics:
    """Answers ``identify``, ``selftest`` and ``log``."""

    def __init__(
        self,
        config: AgentConfig,
        feeds: Feeds,
        show: Callable[[float], None] | None,
        largest: Callable[[], int],
    ) -> None:
        """``show`` has the screen show the cart's name for so many seconds, None without a screen;
        ``largest`` is the broker's largest packet in bytes, 0 if it names none."""
        self._config, self._feeds, self._show, self._largest = config, feeds, show, largest

    def handlers(self) -> dict[str, Handler]:
        """The commands, by name."""
        return {"identify": self._identify, "selftest": lambda _: self._selftest(), "log": self._log}

    def _identify(self, arguments: Mapping[str, Scalar]) -> dict[str, Scalar]:
        seconds = _number(arguments, "seconds", _IDENTIFY_S, _MOST_IDENTIFY_S)
        if self._show is None:
            raise BadInputError("this cart has no screen; its configuration says screen: null")
        self._show(seconds)
        return {"seconds": seconds}

    def _selftest(self) -> dict[str, Scalar]:
        """The bundles as they lie on the disk, replayed beside those at work; the sources as they are."""
        checks = [checked("bundles", self._bundles)]
        checks += [
            checked(f"source {name}", partial(_source, trouble))
            for name, trouble in self._feeds.troubles().items()
        ]
        failed = [_line(check) for check in checks if not check.passed]
        return {"pass": not failed, "checks": len(checks), "failed": "\n".join(failed)}

    def _bundles(self) -> str:
        return f"{len(load_models(self._config))} replayed their golden vectors"

    def _log(self, arguments: Mapping[str, Scalar]) -> dict[str, Scalar]:
        wanted = int(_number(arguments, "lines", _LINES, logs.KEPT))
        room = min(self._largest() or _LOG_BYTES, _LOG_BYTES) - _ANSWER_BYTES
        lines = logs.tail(wanted, room)
        return {"lines": len(lines), "log": "\n".join(lines)}


def _source(trouble: str | None) -> str:
    if trouble is not None:
        raise ScanwrightError(trouble)
    return "at work"


def _line(check: Check) -> str:
    return f"{check.verdict}  {check.name}  {check.seen}"


def _number(arguments: Mapping[str, Scalar], name: str, default: float, most: float) -> float:
    value = arguments.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value <= most:
        raise BadInputError(f"{name}: a number from 1 to {most:.0f}")
    return value
