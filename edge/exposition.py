"""Prometheus' text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

__all__ = ["CONTENT_TYPE", "family"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def family(
    name: str,
    kind: Literal["gauge", "counter"],
    text: str,
    samples: Iterable[tuple[Mapping[str, str], float | None]],
) -> str:
    """A metric ``scanwright_NAME`` with its samples, labels and value each; one without a value is left out.

    Returns:
        Its lines, or nothing where no sample is left.
    """
    full = f"scanwright_{name}"
    lines = [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
    for labels, value in samples:
        if value is not None:
            said = ",".join(f'{key}="{given.translate(_ESCAPES)}"' for key, given in labels.items())
            lines.append(f"{full}{{{said}}} {float(value)!r}" if said else f"{full} {float(value)!r}")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""
