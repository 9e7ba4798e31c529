"""Explicit quantization for TensorRT: ONNX with pairs of QuantizeLinear and DequantizeLinear.

TensorRT runs int8 only where every zero point is 0. The weights of a full-int8 TensorFlow Lite file have that
already, one scale a channel, and stay the very same integers; a tensor between layers gets the smallest
symmetric scale that covers the range which the calibration images gave it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ScanwrightError

__all__ = ["symmetric", "symmetric_scale"]

_LAYOUT = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}


def symmetric_scale(scale: NDArray[np.float32], zero_point: NDArray[Any]) -> NDArray[np.float32]:
    """The least scale with which int8 and zero point 0 cover what ``scale`` and ``zero_point`` cover."""
    zero = zero_point.astype(np.float64)
    wider = np.maximum((zero + 128) / 128, (127 - zero) / 127)
    return np.asarray(scale * np.where(zero == 0, 1.0, wider), np.float32)


def symmetric(model: bytes) -> bytes:
    """The ONNX file that tf2onnx makes of a full-int8 model, with zero points of 0 and float32 at both ends.

    The input takes ``(p - mean) / std`` of each pixel as float32; outputs keep their order and shapes, as
    float32 that was not rounded to int8 again. Biases are float32, as TensorRT wants them.

    Raises:
        ScanwrightError: the model is not int8 throughout.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    proto = onnx.load_from_string(model)
    graph = proto.graph
    values = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    made: dict[str, NDArray[Any]] = {}
    nodes = []
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = values[node.input[1]], values[node.input[2]]
            constant = values.get(node.input[0])
            if constant is not None and constant.dtype == np.int32:
                made[node.output[0]] = np.asarray(constant * scale, np.float32)
                continue
            if zero.dtype != np.int8 or (constant is not None and zero.any()):
                raise ScanwrightError("its tensors are not int8, or its weights not symmetric")
            own = f"{node.output[0]}/scale", f"{node.output[0]}/zero_point"
            made |= {own[0]: symmetric_scale(scale, zero), own[1]: np.zeros_like(zero)}
            node.input[1], node.input[2] = own
        nodes.append(node)
    nodes = _float_input(graph, nodes, helper, TensorProto)
    nodes = _float_outputs(graph, nodes, helper, TensorProto)
    values |= made
    nodes, names = _in_order(graph, nodes)
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(
        numpy_helper.from_array(values[old], new) for old, new in names.items() if old in values
    )
    graph.name, graph.doc_string = "scanwright", ""
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString(deterministic=True))


def _float_input(graph: Any, nodes: list[Any], helper: Any, types: Any) -> list[Any]:
    """Quantize the image in the graph, by the scale with which it is dequantized further on."""
    (entry,) = graph.input
    if entry.type.tensor_type.elem_type == types.FLOAT:
        return nodes
    reached, scale = {entry.name}, None
    for node in nodes:
        if node.input[0] in reached:
            if node.op_type == "DequantizeLinear":
                scale = node.input[1], node.input[2]
                break
            reached |= set(node.output) if node.op_type in _LAYOUT else set()
    if scale is None or entry.type.tensor_type.elem_type != types.INT8:
        raise ScanwrightError("its input is not int8")
    tensor = entry.name
    entry.name = "image"
    entry.type.tensor_type.elem_type = types.FLOAT
    return [helper.make_node("QuantizeLinear", ["image", *scale], [tensor], name="image/quantize"), *nodes]


def _float_outputs(graph: Any, nodes: list[Any], helper: Any, types: Any) -> list[Any]:
    """Give each output as it is before it is quantized, through copies of the layout changes after that."""
    source = {name: node for node in nodes for name in node.output}
    for index, output in enumerate(graph.output):
        if output.type.tensor_type.elem_type == types.FLOAT:
            continue
        chain, node = [], source[output.name]
        while node.op_type in _LAYOUT:
            chain.append(node)
            node = source[node.input[0]]
        if node.op_type != "QuantizeLinear":
            raise ScanwrightError("an output is not int8")
        tensor = node.input[0]
        for step in reversed(chain):
            copy = type(step)()
            copy.CopyFrom(step)
            copy.name, copy.input[0], copy.output[0] = (
                f"{step.name}/float{index}",
                tensor,
                f"{step.output[0]}/float{index}",
            )
            nodes.append(copy)
            tensor = copy.output[0]
        nodes.append(helper.make_node("Identity", [tensor], [f"output_{index}"], name=f"output_{index}"))
        output.name = f"output_{index}"
        output.type.tensor_type.elem_type = types.FLOAT
    return nodes


def _in_order(graph: Any, nodes: list[Any]) -> tuple[list[Any], dict[str, str]]:
    """The nodes that the outputs need, ordered and named by where they stand, and the new names of tensors.

    tf2onnx numbers and orders them otherwise in each process; the same model has to give the same bytes.
    """
    source = {name: node for node in nodes for name in node.output}
    names = {one.name: one.name for one in [*graph.input, *graph.output]}
    ordered: list[Any] = []
    waiting = [output.name for output in reversed(graph.output)]
    while waiting:
        node = source.get(waiting[-1])
        missing = [] if node is None else [name for name in node.input if name and name not in names]
        if node is not None and missing:
            waiting += reversed(missing)
            continue
        name = waiting.pop()
        if node is None:
            names.setdefault(name, f"constant_{len(names)}")
        elif not any(node is known for known in ordered):
            ordered.append(node)
            for output in node.output:
                names.setdefault(output, f"tensor_{len(names)}")
    for index, node in enumerate(ordered):
        node.name = f"{node.op_type}_{index}"
        node.ClearField("doc_string")
        node.ClearField("domain")
        attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
        del node.attribute[:]
        node.attribute.extend(attributes)
        node.input[:] = [names[name] if name else "" for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    return ordered, names
