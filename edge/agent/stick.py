"""What the screen says of a courier's stick: what it did, and when it may be pulled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Problem", "Stick", "sentences"]

Problem = Literal[
    "other",
    "unfinished",
    "damaged",
    "refused",
    "older",
    "full",
    "read_only",
    "pulled",
    "foreign",
    "no_room",
    "not_named",
]


@dataclass(frozen=True)
class Stick:
    """A stick that is in, or was pulled too early. ``results``: findings that were copied onto it, None where
    nothing was; ``update``: a new version came with it."""

    working: bool = False
    results: int | None = None
    update: bool = False
    problem: Problem | None = None


def sentences(stick: Stick, texts: Mapping[str, str]) -> list[str]:
    """What to say, from a text catalogue."""
    if stick.working:
        return [texts["stick.working"]]
    said = [] if stick.results is None else [texts["stick.copied"].format(n=stick.results)]
    said += [texts["stick.update"]] if stick.update else []
    said += [texts[f"stick.{stick.problem}"]] if stick.problem else []
    return said if stick.problem == "pulled" else [*said, texts["stick.pull"]]
