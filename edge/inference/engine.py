"""Engine: the one interface that every interpreter stands behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from edge.errors import ScanwrightError

__all__ = ["Engine", "EngineError", "Interpreter", "Tensor", "TensorSpec"]

Tensor = NDArray[Any]
Interpreter = Literal["auto", "ai-edge-litert", "tflite-runtime", "onnxruntime"]


class EngineError(ScanwrightError):
    """An interpreter is not installed, does not take the model, or failed at running it."""


@dataclass(frozen=True)
class TensorSpec:
    """A model's input or output: shape, numpy dtype name and quantization (1 and 0 if none)."""

    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


class Engine(Protocol):
    """Runs a model with one input, batch 1. Not for use from two threads at once."""

    @property
    def name(self) -> str:
        """Package and version, as ``ai-edge-litert 2.3.0``."""

    @property
    def kernel(self) -> str:
        """The code path that computes, as ``xnnpack-x86_64``. Outputs agree to the bit only within one."""

    @property
    def input(self) -> TensorSpec:
        """The input tensor."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The output tensors, in index order."""

    def run(self, tensor: Tensor) -> list[Tensor]:
        """Outputs in index order, quantized as the model gives them.

        Args:
            tensor: of the input's shape and dtype.

        Raises:
            EngineError: the interpreter failed.
        """
