"""The text catalogues: what a page says, in each language, by key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files

__all__ = ["languages", "load_texts"]

_FOLDER = files("edge.web") / "texts"


def languages() -> list[str]:
    """Codes of the languages there are catalogues for, sorted."""
    return sorted(f.name.removesuffix(".json") for f in _FOLDER.iterdir() if f.name.endswith(".json"))


def load_texts(language: str) -> Mapping[str, str]:
    """Texts by key. ``{n}`` and the like stand for values; ``direction`` is ``ltr`` or ``rtl``.

    Raises:
        KeyError: there is no catalogue of that language.
    """
    if language not in languages():
        raise KeyError(language)
    texts: dict[str, str] = json.loads((_FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return texts
