"""Commands from headquarters: checked, taken once, answered."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from datetime import timedelta

from pydantic import ValidationError

from edge.agent.clock import Clock
from edge.agent.database import Database
from edge.errors import ScanwrightError
from edge.mqtt.payloads import Command, Response

__all__ = ["Commands", "Handler", "InvalidCommandError", "Scalar"]

Scalar = str | int | float | bool | None
Handler = Callable[[Mapping[str, Scalar]], dict[str, Scalar]]

_FRESH = timedelta(minutes=5)
_NONCES = 100_000


class InvalidCommandError(ValueError):
    """The message is no Command: there is nobody to answer."""


class Commands:
    """Answers commands by name. Handlers get the arguments and give the Response's ``result``, or raise a
    ScanwrightError that says why not.

    A nonce is taken once, also across restarts. Where the clock is trusted, ``issued_at`` must be within five
    minutes of it; where it is not, the nonces alone keep replays out.
    """

    def __init__(self, database: Database, clock: Clock, handlers: Mapping[str, Handler]) -> None:
        self._database, self._clock, self._handlers = database, clock, handlers

    def answer(self, name: str, payload: bytes) -> Response:
        """Carry out one command.

        Raises:
            InvalidCommandError: the payload is no Command.
        """
        try:
            command = Command.model_validate_json(payload)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise InvalidCommandError(f"{where}: {problem['msg']}" if where else problem["msg"]) from error
        refusal = self._refusal(name, command)
        if refusal:
            return Response(correlation_id=command.correlation_id, ok=False, error=refusal)
        try:
            result = self._handlers[name](command.arguments)
        except ScanwrightError as error:
            return Response(correlation_id=command.correlation_id, ok=False, error=str(error))
        return Response(correlation_id=command.correlation_id, ok=True, result=result)

    def _refusal(self, name: str, command: Command) -> str | None:
        if self._clock.trusted() and abs(self._clock.now() - command.issued_at) > _FRESH:
            return "issued_at is more than five minutes from the device's clock"
        if not self._database.write(lambda connection: _take(connection, command.nonce)).result():
            return "the nonce was used before"
        if name not in self._handlers:
            return f"unknown command; this device knows {', '.join(sorted(self._handlers))}"
        return None


def _take(connection: sqlite3.Connection, nonce: str) -> bool:
    cursor = connection.execute("INSERT OR IGNORE INTO nonce (nonce) VALUES (?)", (nonce,))
    if not cursor.rowcount:
        return False
    connection.execute("DELETE FROM nonce WHERE seq <= ?", ((cursor.lastrowid or 0) - _NONCES,))
    return True
