"""What waits to be told, as the connection sees it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Literal, Protocol

__all__ = ["Kind", "Message", "Waiting"]

Kind = Literal["finding", "event", "overlay"]


class Message(Protocol):
    """A waiting message; ``seq`` grows with each."""

    @property
    def seq(self) -> int: ...
    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def topic(self) -> str: ...
    @property
    def payload(self) -> bytes: ...


class Waiting(Protocol):
    """What the connection needs of an outbox; see ``edge.agent.outbox.Outbox``."""

    def next(self, n: int, kind: Kind, after: int = 0) -> Sequence[Message]: ...
    def done(self, ids: Iterable[str]) -> Future[int]: ...
    def last(self) -> int: ...
    def bring_back(self, largest: int, everything: bool) -> Future[int]: ...
