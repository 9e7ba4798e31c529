"""Finds images that stand in two parts of the data, which makes results look better than they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainer.data.dataset import Loaded

__all__ = ["Leaks", "find_leaks"]


@dataclass(frozen=True)
class Leaks:
    """``count`` images of later parts that are, pixel for pixel, in an earlier one; some as "name = name"."""

    count: int
    examples: tuple[str, ...]


def find_leaks(parts: Mapping[str, Loaded], most_examples: int = 5) -> Leaks:
    """Compare the pixel hashes of the parts, in their order (train first).

    Only identical pixels are found: another copy in another size or compression is not.
    """
    seen: dict[bytes, str] = {}
    found: list[str] = []
    for part, loaded in parts.items():
        here: dict[bytes, str] = {}
        for sample, fingerprint in zip(loaded.samples, loaded.hashes, strict=True):
            name = f"{part}: {sample.name}"
            if fingerprint in seen:
                found.append(f"{name} = {seen[fingerprint]}")
            here.setdefault(fingerprint, name)
        seen = here | seen
    return Leaks(len(found), tuple(found[:most_examples]))
