"""TensorFlow Lite's interpreter under either of its names: ai-edge-litert, or the older tflite-runtime."""

from __future__ import annotations

import importlib
import platform
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np

from edge.inference.engine import EngineError, Interpreter, Tensor, TensorSpec

__all__ = ["TFLiteEngine"]

_MODULES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}


class TFLiteEngine:
    """An :class:`~edge.inference.engine.Engine` for a ``.tflite`` model.

    Args:
        model: the flatbuffer's bytes.
        threads: CPU threads for one inference, at least 1.
        interpreter: package to use; ``auto`` takes ai-edge-litert where it is installed.
        delegates: False keeps XNNPACK out; the built-in kernels then compute, to the bit the same in
            ai-edge-litert and in tflite-runtime, which has no XNNPACK for int8.

    Raises:
        EngineError: the package is not installed, or refuses the model.
    """

    def __init__(
        self, model: bytes, threads: int = 1, interpreter: Interpreter = "auto", delegates: bool = True
    ) -> None:
        package, module = _find(interpreter)
        self.name = f"{package} {version(package)}"
        resolvers = module.OpResolverType
        resolver = resolvers.AUTO if delegates else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            self._interpreter = module.Interpreter(
                model_content=model, num_threads=threads, experimental_op_resolver_type=resolver
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"{self.name} refuses the model: {_first_line(error)}") from error
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        if len(inputs) != 1:
            raise EngineError(f"the model has {len(inputs)} inputs; scanwright runs models with one")
        self.input = _spec(inputs[0])
        self.outputs = tuple(_spec(output) for output in outputs)
        self.kernel = f"{self._path()}-{platform.machine()}"
        self._input_index: int = inputs[0]["index"]
        self._output_indices: list[int] = [output["index"] for output in outputs]

    def run(self, tensor: Tensor) -> list[Tensor]:
        """See :meth:`edge.inference.engine.Engine.run`."""
        interpreter = self._interpreter
        try:
            interpreter.set_tensor(self._input_index, tensor)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in self._output_indices]
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"{self.name} failed: {_first_line(error)}") from error

    def _path(self) -> str:
        # No public call tells whether the XNNPACK delegate took the graph; both packages have this one.
        operators = {operator["op_name"] for operator in self._interpreter._get_ops_details()}
        return "xnnpack" if any("delegate" in name.lower() for name in operators) else "builtin"


def _find(interpreter: Interpreter) -> tuple[str, ModuleType]:
    wanted = list(_MODULES) if interpreter == "auto" else [interpreter]
    for package in wanted:
        try:
            return package, importlib.import_module(_MODULES[package])
        except ImportError:
            continue
    raise EngineError(f"no interpreter: {' or '.join(wanted)} is not installed, or not for this system")


def _spec(details: dict[str, Any]) -> TensorSpec:
    scale, zero_point = details["quantization"]
    shape = tuple(int(side) for side in details["shape"])
    return TensorSpec(shape, np.dtype(details["dtype"]).name, float(scale) or 1.0, int(zero_point))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
