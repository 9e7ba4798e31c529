"""ONNX Runtime: a Jetson's GPU behind the interface, believed only where it agrees with the int8 model."""

from __future__ import annotations

import hashlib
import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.inference.engine import Engine, EngineError, Tensor, TensorSpec

__all__ = ["LOGITS_STEPS", "OTHERS_STEPS", "OnnxEngine", "check_agreement"]

LOGITS_STEPS = 24
"""Steps of int8 by which a logit of a golden vector may be off at most; 255 are the calibrated range."""

OTHERS_STEPS = 8.0
"""Steps by which activation map, embedding and mask may be off on average, each of them."""

_KERNELS = {
    "TensorrtExecutionProvider": "tensorrt",
    "CUDAExecutionProvider": "cuda",
    "CPUExecutionProvider": "cpu",
}
_DISTRIBUTIONS = (
    "onnxruntime-gpu",
    "onnxruntime",
)  # the vendor's wheel for a Jetson is called like the first
_DEVICE = ("/proc/device-tree/model", "/etc/nv_tegra_release", "/proc/driver/nvidia/version")


class OnnxEngine:
    """An :class:`~edge.inference.engine.Engine` for a bundle's ``model.onnx``.

    It takes and gives the tensors of the int8 model beside it, so whatever rests on those holds for it too.
    Of TensorRT, CUDA and the CPU it uses the first that ONNX Runtime has here; ``kernel`` says which.

    Args:
        model: the ONNX file's bytes.
        like: the engine of the int8 model, whose tensors it has.
        threads: CPU threads for one inference.
        cache: folder for what TensorRT builds, which takes minutes, of this model for this device; None
            builds it at every start.
        providers: ``gpu`` refuses to fall back to the CPU, on which the int8 model is faster.

    Raises:
        EngineError: ONNX Runtime is not installed, has no GPU here, or refuses the model.
    """

    def __init__(
        self,
        model: bytes,
        like: Engine,
        threads: int = 1,
        cache: Path | None = None,
        providers: Literal["any", "gpu"] = "any",
    ) -> None:
        try:
            runtime: Any = import_module("onnxruntime")
        except ImportError as error:
            raise EngineError("onnxruntime is not installed, or not for this system") from error
        self.name = f"onnxruntime {_version()}"
        wanted = [name for name in _KERNELS if name in runtime.get_available_providers()]
        if providers == "gpu" and wanted[:1] == ["CPUExecutionProvider"]:
            raise EngineError(f"{self.name} has neither TensorRT nor CUDA; install the board vendor's build")
        errors = self._errors = _errors()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(
                model, options, providers=[(name, _options(name, model, cache)) for name in wanted]
            )
        except errors as error:
            raise EngineError(f"{self.name} refuses the model: {_first_line(error)}") from error
        # A provider that cannot start here is left out by the runtime without an error.
        used = self._session.get_providers()[0]
        if providers == "gpu" and used == "CPUExecutionProvider":
            raise EngineError(f"{self.name} cannot start {_KERNELS[wanted[0]]} on this device")
        self.kernel = f"{_KERNELS[used]}-{platform.machine()}"
        self.input, self.outputs = like.input, like.outputs
        found = [tuple(one.shape) for one in self._session.get_outputs()]
        if found != [spec.shape for spec in like.outputs]:
            raise EngineError(f"model.onnx gives {found}, not what model.tflite gives")
        self._image: str = self._session.get_inputs()[0].name

    def run(self, tensor: Tensor) -> list[Tensor]:
        """See :meth:`edge.inference.engine.Engine.run`."""
        spec, errors = self.input, self._errors
        image = (tensor.astype(np.float32) - np.float32(spec.zero_point)) * np.float32(spec.scale)
        try:
            found = self._session.run(None, {self._image: image})
        except errors as error:
            raise EngineError(f"{self.name} failed: {_first_line(error)}") from error
        return [_quantized(values, own) for values, own in zip(found, self.outputs, strict=True)]


def check_agreement(engine: Engine, int8: Engine, inputs: NDArray[Any], logits: int) -> int:
    """Run both engines on golden inputs; the largest difference of a logit, in steps.

    Args:
        engine: the one that is not believed yet.
        int8: the one that the bundle's evidence is about.
        inputs: ``[n, h, w, c]`` as both take them.
        logits: index of the logits among the outputs.

    Raises:
        EngineError: they differ by more than :data:`LOGITS_STEPS` or :data:`OTHERS_STEPS`, or one failed.
    """
    largest, means = 0.0, np.zeros(len(int8.outputs))
    for vector in inputs:
        pairs = zip(engine.run(vector[np.newaxis]), int8.run(vector[np.newaxis]), int8.outputs, strict=True)
        for index, (found, expected, spec) in enumerate(pairs):
            apart = np.abs(found.astype(np.float64) - expected) / (spec.scale if _is_float(spec) else 1.0)
            means[index] += float(apart.mean()) / len(inputs)
            if index == logits:
                largest = max(largest, float(apart.max()))
    where = f"{engine.name} ({engine.kernel})"
    if not largest <= LOGITS_STEPS:
        raise EngineError(
            f"{where} differs from the int8 model by {largest:.0f} steps of a logit; "
            f"{LOGITS_STEPS} are allowed"
        )
    worst = float(means.max())
    if not worst <= OTHERS_STEPS:
        raise EngineError(
            f"{where} differs from the int8 model by {worst:.1f} steps of output {int(means.argmax())} on "
            f"average; {OTHERS_STEPS:g} are allowed"
        )
    return round(largest)


def _options(provider: str, model: bytes, cache: Path | None) -> dict[str, str]:
    if provider != "TensorrtExecutionProvider":
        return {}
    options = {"trt_int8_enable": "True", "trt_fp16_enable": "True"}
    if cache is None:
        return options
    folder = cache / f"{hashlib.sha256(model).hexdigest()[:16]}-{_device()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return options | {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(folder)}


def _device() -> str:
    """What an engine is built for: the board, its driver and this runtime, hashed; another builds its own."""
    parts = [_version().encode(), platform.machine().encode()]
    parts += [path.read_bytes() for path in map(Path, _DEVICE) if path.is_file()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _version() -> str:
    for name in _DISTRIBUTIONS:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "of unknown version"


def _errors() -> tuple[type[Exception], ...]:
    """The errors that the runtime raises; they have no base class of their own."""
    state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    found = [one for one in vars(state).values() if isinstance(one, type) and issubclass(one, Exception)]
    return (*found, OSError, RuntimeError, ValueError)


def _quantized(values: NDArray[np.float32], spec: TensorSpec) -> Tensor:
    if _is_float(spec):
        return values
    kind = np.iinfo(spec.dtype)
    steps = np.rint(values / np.float32(spec.scale)) + spec.zero_point
    return np.asarray(np.clip(steps, kind.min, kind.max), spec.dtype)


def _is_float(spec: TensorSpec) -> bool:
    return spec.dtype == "float32"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
