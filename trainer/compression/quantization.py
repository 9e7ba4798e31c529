"""Conversion to TensorFlow Lite: float32, and full int8 with a calibration set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edge.bundle.manifest import InputSpec, OutputSpec
from edge.errors import ScanwrightError
from trainer.backend import quiet, tf
from trainer.calibration import full_range
from trainer.models.export import export

__all__ = ["describe", "to_float", "to_int8"]


def to_float(model: Any) -> bytes:
    """The exported network as a float32 TensorFlow Lite file."""
    return _convert(model, None)


def to_int8(model: Any, calibration: NDArray[np.uint8]) -> bytes:
    """The exported network in int8 throughout, input and outputs included.

    Args:
        model: a trained Keras network of :mod:`trainer.models`.
        calibration: uint8 ``[n, H, W, C]``; its values set the ranges of every tensor.

    Raises:
        ScanwrightError: the input's quantization did not come out as exactly ``p - 128``.
    """
    model_file = _convert(model, full_range(calibration))
    spec, _ = describe(model_file)
    if (spec.dtype, spec.scale, spec.zero_point) != ("int8", 1 / 128, 0):
        raise ScanwrightError(
            f"quantization gave the input {spec.dtype}, scale {spec.scale}, zero point {spec.zero_point}; "
            "int8, 1/128 and 0 were expected: report this with your TensorFlow version"
        )
    return model_file


def describe(model_file: bytes) -> tuple[InputSpec, tuple[OutputSpec, ...]]:
    """Input and outputs of a file made here, as a manifest has them; its signature names the outputs."""
    with quiet():
        interpreter = Interpreter(model_content=model_file)
        interpreter.allocate_tensors()
    signature = interpreter.get_signature_runner()
    tensor = interpreter.get_input_details()[0]
    positions = {detail["name"]: place for place, detail in enumerate(interpreter.get_output_details())}
    scale, zero_point = _quantization(tensor)
    _, height, width, channels = (int(side) for side in tensor["shape"])
    outputs = []
    for name, detail in signature.get_output_details().items():
        output_scale, output_zero_point = _quantization(detail)
        outputs.append(
            OutputSpec.model_validate(
                {
                    "name": name,
                    "index": positions[detail["name"]],
                    "shape": tuple(int(side) for side in detail["shape"]),
                    "dtype": np.dtype(detail["dtype"]).name,
                    "scale": output_scale,
                    "zero_point": output_zero_point,
                }
            )
        )
    spec = InputSpec.model_validate(
        {
            "height": height,
            "width": width,
            "channels": channels,
            "dtype": np.dtype(tensor["dtype"]).name,
            "scale": scale,
            "zero_point": zero_point,
        }
    )
    return spec, tuple(sorted(outputs, key=lambda output: output.index))


def _quantization(detail: dict[str, Any]) -> tuple[float, int]:
    scale, zero_point = detail["quantization"]
    return (float(scale), int(zero_point)) if scale else (1.0, 0)


def _convert(model: Any, calibration: NDArray[np.uint8] | None) -> bytes:
    function, owner = export(model)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], owner)
    if calibration is not None:

        def representative() -> Iterator[list[NDArray[np.float32]]]:
            for image in calibration:
                yield [(image[np.newaxis].astype(np.float32) / 128.0 - 1.0).astype(np.float32)]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with quiet():
        return bytes(converter.convert())
