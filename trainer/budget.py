"""A budget for what is to run on a board, and what a search for the best within it found."""

from __future__ import annotations

import re
from collections.abc import Callable

from edge.bundle.target import Target
from edge.bundle.target import target as find_target
from edge.errors import BadInputError
from edge.schema import Contract

__all__ = ["Budget", "Found", "parse_budget"]

EXAMPLE = "size=250kB,latency=5ms,target=raspberry-pi-4,minutes=20"
QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z]*)")
BYTES = {"b": 1, "kb": 1000, "mb": 1000**2, "kib": 1024, "mib": 1024**2}
MILLISECONDS = {"ms": 1.0, "us": 0.001, "s": 1000.0}
MINUTES = {"": 1.0, "min": 1.0, "h": 60.0}


class Budget(Contract):
    """Limits of the int8 model, and how long to search for the best within them.

    ``size`` is that of ``model.tflite`` in bytes, ``transfer`` the same compressed as a bundle holds it,
    ``latency`` the interpreter's milliseconds an image on ``target``: measured here with one thread, times
    the target's ``latency_factor``, hence an estimate. Without a target it is the time on this machine.
    """

    size: int | None = None
    transfer: int | None = None
    latency: float | None = None
    target: str | None = None
    minutes: float = 10

    @property
    def factor(self) -> float:
        """Estimated time on the target over time here."""
        return find_target(self.target).latency_factor if self.target else 1.0

    def in_words(self) -> str:
        """The limits, as they are given."""
        parts = []
        if self.size is not None:
            parts.append(f"size {self.size / 1000:g} kB")
        if self.transfer is not None:
            parts.append(f"transfer {self.transfer / 1000:g} kB")
        if self.latency is not None:
            parts.append(f"latency {self.latency:g} ms on {self.target or 'this machine'}")
        return ", ".join(parts)


class Found(Contract):
    """One combination of a search: its settings, and what it comes to on the tuning part.

    ``latency`` is in milliseconds on the budget's target, an estimate where that is another machine.
    ``auroc``, ``accuracy`` and ``dice`` are of the int8 model through the device's interpreter. ``best``
    marks the one that was taken, ``front`` those that nothing else beats in every respect.
    """

    channels: float
    sparsity: float
    method: str
    auroc: float | None = None
    accuracy: float | None = None
    dice: float | None = None
    size: int
    transfer: int
    latency: float
    fits: bool = False
    front: bool = False
    best: bool = False

    @property
    def measure(self) -> str:
        """What combinations are ranked by: Dice of a segmentation, else AUROC, or accuracy without one."""
        if self.dice is not None:
            return "Dice"
        return "AUROC" if self.auroc is not None else "accuracy"

    @property
    def score(self) -> float:
        """The value of :attr:`measure`, 0 to 1."""
        return next((value for value in (self.dice, self.auroc, self.accuracy) if value is not None), 0.0)

    def excess(self, budget: Budget) -> float:
        """The largest of size, transfer and latency over its limit; at most 1 fits."""
        pairs = (
            (self.size, budget.size),
            (self.transfer, budget.transfer),
            (self.latency, budget.latency),
        )
        return max(value / limit for value, limit in pairs if limit is not None)

    def in_words(self) -> str:
        """Its settings, and what they come to."""
        sizes = f"{self.size / 1000:.0f} kB, {self.transfer / 1000:.0f} kB compressed"
        fits = "" if self.fits else ", does not fit"
        return f"{self.settings()}: {self.measure} {self.score:.4f}, {sizes}, {self.latency:.3g} ms{fits}"

    def figures(self) -> tuple[str, str, str, str, str, str]:
        """Cells of a table: score, size, compressed size, milliseconds, whether it fits, and of the front."""
        return (
            f"{self.score:.4f}",
            f"{self.size / 1000:.0f} kB",
            f"{self.transfer / 1000:.0f} kB",
            f"{self.latency:.3g}",
            "yes" if self.fits else "no",
            "yes" if self.front else "",
        )

    def settings(self) -> str:
        """Its settings."""
        parts = [f"{100 * self.channels:g}% of the channels" if self.channels < 1 else "all channels"]
        if self.sparsity:
            parts.append(f"{self.sparsity:.0%} of the weights pruned")
        if self.method != "post-training":
            parts.append(self.method)
        return ", ".join(parts)


def parse_budget(text: str) -> Budget:
    """``size=250kB,latency=5ms,target=raspberry-pi-4,minutes=20`` as a :class:`Budget`.

    Sizes are in B, kB, MB, KiB or MiB, times in us, ms or s, minutes in min or h or without a unit. At least
    one of size, transfer and latency is given.

    Raises:
        BadInputError: a key is unknown, given twice or has no value that can be read; the key is named. Or
            there is no such target.
    """
    values: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise BadInputError(f"--budget: '{part.strip()}' is not KEY=VALUE, as in {EXAMPLE}")
        if key not in READERS:
            raise BadInputError(f"--budget: unknown key '{key}'; known: {', '.join(READERS)}")
        if key in values:
            raise BadInputError(f"--budget: '{key}' is given twice")
        values[key] = value
    if not {"size", "transfer", "latency"} & set(values):
        raise BadInputError(f"--budget: give size, transfer or latency, as in {EXAMPLE}")
    return Budget.model_validate({key: READERS[key](key, value) for key, value in values.items()})


def _quantity(units: dict[str, float] | dict[str, int]) -> Callable[[str, str], float]:
    def read(key: str, value: str) -> float:
        match = QUANTITY.fullmatch(value)
        unit = match[2].lower() if match else ""
        if match is None or unit not in units:
            known = ", ".join(name for name in units if name)
            raise BadInputError(f"--budget: {key}='{value}' is not a number with a unit ({known})")
        number = float(match[1]) * units[unit]
        if not 0 < number < 1e12:
            raise BadInputError(f"--budget: {key}='{value}' is out of range")
        return number

    return read


def _bytes(key: str, value: str) -> int:
    return max(1, int(_quantity(BYTES)(key, value)))


def _target(key: str, value: str) -> str:
    found: Target = find_target(value)
    return found.name


READERS: dict[str, Callable[[str, str], object]] = {
    "size": _bytes,
    "transfer": _bytes,
    "latency": _quantity(MILLISECONDS),
    "target": _target,
    "minutes": _quantity(MINUTES),
}
