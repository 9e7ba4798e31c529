"""The operators of a ``.tflite`` file, and which interpreters have them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from edge.bundle.manifest import Operator
from edge.bundle.target import Target
from edge.errors import BadInputError, ScanwrightError

__all__ = ["OLDEST", "OLDEST_VERSIONS", "check_target", "least_version", "operators"]

OLDEST = "2.14.0"
"""The oldest TensorFlow Lite that scanwright runs on: tflite-runtime's last release."""

OLDEST_VERSIONS = {
    "ABS": 5,
    "ADD": 5,
    "AVERAGE_POOL_2D": 3,
    "BATCH_MATMUL": 4,
    "CONCATENATION": 4,
    "CONV_2D": 7,
    "DEPTHWISE_CONV_2D": 7,
    "DEPTH_TO_SPACE": 2,
    "DEQUANTIZE": 5,
    "EXPAND_DIMS": 1,
    "FULLY_CONNECTED": 10,
    "GELU": 2,
    "HARD_SWISH": 1,
    "L2_NORMALIZATION": 2,
    "LEAKY_RELU": 2,
    "LOGISTIC": 3,
    "MAXIMUM": 4,
    "MAX_POOL_2D": 3,
    "MEAN": 3,
    "MINIMUM": 4,
    "MUL": 7,
    "PACK": 4,
    "PAD": 4,
    "PADV2": 4,
    "PRELU": 1,
    "QUANTIZE": 3,
    "REDUCE_MAX": 3,
    "RELU": 3,
    "RELU6": 3,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 4,
    "RESIZE_NEAREST_NEIGHBOR": 4,
    "SHAPE": 1,
    "SLICE": 6,
    "SOFTMAX": 3,
    "SPACE_TO_DEPTH": 2,
    "SPLIT": 4,
    "SQUEEZE": 2,
    "STRIDED_SLICE": 8,
    "SUB": 5,
    "SUM": 2,
    "TANH": 3,
    "TRANSPOSE": 6,
    "TRANSPOSE_CONV": 4,
}
"""Newest version of each operator in :data:`OLDEST`, found by loading models with every version into it;
those that image networks do not use are left out."""


def operators(model: bytes, origin: str) -> tuple[Operator, ...]:
    """The operators that a model uses, by name, each with its version.

    Raises:
        BadInputError: ``model`` is no TensorFlow Lite flatbuffer; the message starts with ``origin``.
    """
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    if not schema.Model.ModelBufferHasIdentifier(model, 0):
        raise BadInputError(f"{origin}: not a TensorFlow Lite model")
    found: dict[str, int] = {}
    try:
        root = schema.Model.GetRootAs(model, 0)
        for index in range(root.OperatorCodesLength()):
            code = root.OperatorCodes(index)
            # Files older than 2020 hold small codes in the deprecated field only.
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            custom = code.CustomCode()
            name = custom.decode(errors="replace") if custom else names[number]
            found[name] = max(code.Version(), found.get(name, 0))
    except (struct.error, IndexError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(f"{origin}: a damaged TensorFlow Lite model") from error
    return tuple(Operator(name=name, version=version) for name, version in sorted(found.items()))


def least_version(used: Sequence[Operator], tools: Mapping[str, str]) -> str:
    """The least TensorFlow Lite version known to have these operators.

    :data:`OLDEST` where it has all of them; else the TensorFlow in ``tools`` that converted the model, as a
    converter writes no operator newer than itself.

    Raises:
        ScanwrightError: neither is known; the operator is named.
    """
    newer = [one for one in used if one.version > OLDEST_VERSIONS.get(one.name, 0)]
    if not newer:
        return OLDEST
    if "tensorflow" in tools:
        return tools["tensorflow"]
    raise ScanwrightError(
        f"operator {newer[0].name} v{newer[0].version} is not in TensorFlow Lite {OLDEST}, and the run does "
        "not say which TensorFlow converted the model"
    )


def check_target(used: Sequence[Operator], target: Target) -> None:
    """Check that the target's interpreter has these operators, as far as the target says.

    Raises:
        ScanwrightError: it does not have one, which is named.
    """
    for one in used:
        most = target.max_operator_versions.get(one.name)
        if most is not None and one.version > most:
            raise ScanwrightError(
                f"{target.name}: {target.interpreter} {target.interpreter_version} has operator {one.name} "
                f"up to version {most}, the model needs version {one.version}"
            )
