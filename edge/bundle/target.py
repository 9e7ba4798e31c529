"""A target: a kind of board, described by one YAML in ``firmware_configs``."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

from pydantic import Field

from edge.errors import BadInputError
from edge.schema import Contract, Name, parse

__all__ = ["Proof", "Release", "Target", "Thermal", "target", "target_names"]


class Release(Contract):
    """An operating system release the target is meant to run."""

    name: str = Field(description="as its /etc/os-release says in VERSION_CODENAME")
    python: str = Field(pattern=r"^3\.\d+$", description="of the release's own package python3")
    glibc: str = Field(pattern=r"^2\.\d+$", description="decides which wheels fit")


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
    board: str = Field(description="the hardware, in words")
    architecture: Literal["aarch64", "x86_64", "wasm32"]
    releases: tuple[Release, ...] = ()
    interpreter: Literal["ai-edge-litert", "tflite-runtime", "litert-web"]
    interpreter_version: str = Field(description="that the proof and the latency factor were taken with")
    max_operator_versions: dict[str, int] = Field(
        default={}, description="least upper bounds, where this interpreter is known to refuse newer ones"
    )
    threads: int = Field(default=1, ge=1, le=64, description="of the interpreter; the other cores stay free")
    memory_mb: int = Field(ge=64, description="of the smallest board of the kind")
    agent_memory_limit_mb: int = Field(
        default=512, ge=64, description="beyond it the service is slowed and, at half more, started again"
    )
    delegates: tuple[str, ...] = ("xnnpack",)
    external_delegate: str | None = Field(
        default=None, description="path of a delegate's library on the board, such as an Edge TPU's"
    )
    latency_factor: float = Field(
        gt=0, description="estimated time on the board over time on the packaging machine"
    )
    thermal: Thermal | None = None
    grabber: dict[str, str] = Field(default={}, description="how a video grabber is opened on this board")
    card: Literal["raspberry-pi", "jetson"] | None = Field(
        default=None, description="how the vendor's card image is laid out, for 'flash --image'"
    )
    extra_members: tuple[Literal["model.onnx"], ...] = ()
    proven: tuple[Proof, ...]

    def release(self, name: str | None) -> Release:
        """The release called ``name``, or the first.

        Raises:
            BadInputError: the target has no such release, or none at all (a phone).
        """
        for release in self.releases:
            if name in (None, release.name):
                return release
        known = ", ".join(release.name for release in self.releases) or "none: nothing is installed on it"
        raise BadInputError(f"target '{self.name}' has no release '{name}'; it has {known}")


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
