"""The text catalogues: what a page says, in each language, by key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

__all__ = ["languages", "load_texts"]

_FOLDER = files("edge.web") / "texts"


@cache
def languages() -> tuple[str, ...]:
    """Codes of the languages there are catalogues for, sorted."""
    return tuple(sorted(f.name.removesuffix(".json") for f in _FOLDER.iterdir() if f.name.endswith(".json")))


@cache
def load_texts(language: str, part: str | None = None) -> Mapping[str, str]:
    """Texts by key. ``{n}`` and the like stand for values; ``direction`` is ``ltr`` or ``rtl``. ``part``:
    with those that only one program needs, such as ``fleet``.

    Raises:
        KeyError: there is no catalogue of that language.
    """
    if language not in languages():
        raise KeyError(language)
    texts: dict[str, str] = {}
    for folder in (_FOLDER, *([_FOLDER / part] if part else [])):
        texts |= json.loads((folder / f"{language}.json").read_text(encoding="utf-8"))
    return texts
