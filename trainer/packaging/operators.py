"""The operators of a ``.tflite`` file, and which interpreters have them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml

from edge.bundle.manifest import Operator
from edge.bundle.target import Target
from edge.errors import BadInputError, ScanwrightError

__all__ = [
    "NEWEST_VERSIONS",
    "OLDEST",
    "OLDEST_VERSIONS",
    "check_target",
    "least_version",
    "operators",
]

OLDEST = "2.14.0"
"""The oldest TensorFlow Lite that scanwright runs on: tflite-runtime's last release."""

_TABLES: dict[str, dict[str, int]] = yaml.safe_load(
    (files("trainer.packaging") / "operators.yaml").read_text(encoding="utf-8")
)
OLDEST_VERSIONS = _TABLES[f"tflite-runtime {OLDEST}"]
"""Newest version of each operator in :data:`OLDEST`."""

NEWEST_VERSIONS = _TABLES["ai-edge-litert 2.3.0"]
"""Newest version of each operator in the interpreter under its newer name, which carts get; a browser's is
built from the same kernels."""


def operators(model: bytes, origin: str) -> tuple[Operator, ...]:
    """The operators that a model uses, by name, each with its version.

    Raises:
        BadInputError: ``model`` is no TensorFlow Lite flatbuffer; the message starts with ``origin``.
    """
    schema = _schema()
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


def check_target(used: Sequence[Operator], target: Target, origin: str) -> None:
    """Check that the target's interpreter has these operators.

    Raises:
        ScanwrightError: it does not have one, which is named; the message starts with ``origin``.
    """
    table = OLDEST_VERSIONS if target.interpreter == "tflite-runtime" else NEWEST_VERSIONS
    table = table | target.max_operator_versions
    has = f"{origin}: {target.name}'s {target.interpreter} {target.interpreter_version}"
    for one in used:
        if one.name not in table:
            kind = "" if hasattr(_schema().BuiltinOperator, one.name) else "custom "
            raise ScanwrightError(
                f"{has} does not have the {kind}operator {one.name}, which the model uses; build "
                "that layer from built-in operators (convert without select_tf_ops and custom operators)"
            )
        if one.version > table[one.name]:
            raise ScanwrightError(
                f"{has} has operator {one.name} up to version {table[one.name]}, the model needs version "
                f"{one.version}"
            )


def _schema() -> Any:
    from ai_edge_litert import schema_py_generated

    return schema_py_generated
