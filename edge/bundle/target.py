"""A target: a kind of board, described by one YAML in ``firmware_configs``."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated, Literal

from pydantic import Field

from edge.errors import BadInputError
from edge.schema import Contract, Name, parse

__all__ = ["Proof", "Release", "Target", "Thermal", "target", "target_names"]


class Release(Contract):
    """An operating system release the target is meant to run."""

    name: str
    python: str
    glibc: str | None = None


class Thermal(Contract):
    """Temperatures in degrees Celsius at which the cart warns and at which the board throttles."""

    warn_celsius: float
    throttle_celsius: float


class Proof(Contract):
    """What a claim about this target rests on."""

    by: Literal["board", "emulation", "none"]
    what: str


class Target(Contract):
    """One board: everything scanwright needs to know to package for it and to run on it."""

    schema_version: Literal[1] = 1
    name: Name
    title: str
    board: str
    architecture: Literal["aarch64", "x86_64", "wasm32"]
    releases: tuple[Release, ...] = ()
    interpreter: Literal["ai-edge-litert", "tflite-runtime", "litert-web"]
    interpreter_version: str
    max_operator_versions: dict[str, int] = Field(
        default={}, description="least upper bounds, where this interpreter is known to refuse newer ones"
    )
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    memory_mb: Annotated[int, Field(ge=64)]
    agent_memory_limit_mb: Annotated[int, Field(ge=64)] = 512
    delegates: tuple[str, ...] = ("xnnpack",)
    external_delegate: str | None = None
    latency_factor: float = Field(
        gt=0, description="estimated time on the board over time on the packaging machine"
    )
    thermal: Thermal | None = None
    grabber: dict[str, str] = {}
    extra_members: tuple[Literal["model.onnx"], ...] = ()
    proven: tuple[Proof, ...]


def target_names() -> list[str]:
    """Names of all targets, sorted."""
    return sorted(
        f.name.removesuffix(".yaml") for f in files("firmware_configs").iterdir() if f.name.endswith(".yaml")
    )


def target(name: str) -> Target:
    """The target called ``name``.

    Raises:
        BadInputError: there is none; the message lists those there are.
    """
    if name not in target_names():
        raise BadInputError(f"unknown target '{name}'; known targets: {', '.join(target_names())}")
    path = files("firmware_configs") / f"{name}.yaml"
    return parse(path.read_text(encoding="utf-8"), Target, path.name)
