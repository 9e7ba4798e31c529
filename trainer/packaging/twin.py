"""The model's twin for MediaPipe Tasks: RGB uint8 in, float32 scores out, around the same int8 network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.bundle.manifest import Manifest
from trainer.packaging.tflite_metadata import METADATA_NAME, append_labels, model_metadata

__all__ = ["twin"]

# BT.601 luma in whole numbers whose sum is the divisor, so that gray comes out exactly as it went in and any
# colour within one step of the Step 'grayscale'.
_LUMA = (65, 127, 25)
_FLOAT32, _UINT8, _INT8, _INT32 = (
    schema.TensorType.FLOAT32,
    schema.TensorType.UINT8,
    schema.TensorType.INT8,
    schema.TensorType.INT32,
)


def twin(model: bytes, manifest: Manifest) -> bytes | None:
    """The twin's bytes, with TFLite Metadata and labels; the same model gives the same bytes.

    Before the network: uint8 RGB ``[1, H, W, 3]`` becomes the network's int8, through the luma where it has
    one channel. After it: the logits (segmentation: the masks) as calibrated probabilities, float32. The
    other outputs are left out, and so are Steps: resizing, and nothing else, is done by MediaPipe.

    Args:
        model: the int8 flatbuffer.
        manifest: of the bundle.

    Returns:
        None where no such input gives the network's exactly: its pixels are not whole steps, or each channel
        is scaled in its own way.
    """
    spec = manifest.input
    mean, std = spec.mean[0], spec.std[0]
    one_scale = len({*spec.mean}) == 1 and len({*spec.std}) == 1
    whole = abs(1 / std / spec.scale - 1) < 1e-6 and mean == round(mean) and 0 <= mean <= 255
    if spec.dtype != "int8" or not one_scale or not whole:
        return None
    graph = _Graph(model)
    graph.take_rgb(1 / std, round(mean), spec.channels)
    graph.give_probabilities(manifest)
    metadata = model_metadata(
        f"{manifest.name} {manifest.version}",
        manifest.intended_use.statement + " Not a medical device: decision support.",
        manifest.version,
        spec.mean,
        spec.std,
    )
    return append_labels(graph.to_bytes(metadata), manifest.labels)


class _Graph:
    """A flatbuffer as objects, changed at its two ends."""

    def __init__(self, model: bytes) -> None:
        self._model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
        self._graph: Any = self._model.subgraphs[0]

    def take_rgb(self, scale: float, zero_point: int, channels: int) -> None:
        entry = int(self._graph.inputs[0])
        inner = self._graph.tensors[entry]
        shape = [*(int(side) for side in inner.shape[:3]), 3]
        rgb = self._tensor("image", shape, _UINT8, scale, zero_point)
        ours = float(inner.quantization.scale[0]), int(inner.quantization.zeroPoint[0])
        signed = entry if channels == 3 else self._tensor("image_int8", shape, _INT8, *ours)
        before = [self._operator("QUANTIZE", 2, [rgb], [signed], "QuantizeOptions")]
        if channels == 1:
            weights = np.array(_LUMA, np.int8).reshape(1, 1, 1, 3)
            share = 1 / sum(_LUMA)
            luma = self._constant("luma", weights, _INT8, share)
            bias = self._constant("luma_bias", np.zeros(1, np.int32), _INT32, share * ours[0])
            convolve = self._operator("CONV_2D", 3, [signed, luma, bias], [entry], "Conv2DOptions")
            convolve.builtinOptions.strideH = convolve.builtinOptions.strideW = 1
            before.append(convolve)
        self._graph.operators = [*before, *self._graph.operators]
        self._graph.inputs = np.array([rgb], np.int32)

    def give_probabilities(self, manifest: Manifest) -> None:
        segments = manifest.task == "segmentation"
        spec = next(one for one in manifest.outputs if one.name == ("mask" if segments else "logits"))
        # The signature's order is the interpreter's; the graph's own may be another.
        source = self._outputs()[spec.index]
        real = self._tensor("logits_float", list(spec.shape), _FLOAT32)
        score = self._tensor("score", list(spec.shape), _FLOAT32)
        after = [self._operator("DEQUANTIZE", 2, [source], [real], "DequantizeOptions")]
        inverse = 1.0 if segments else 1 / manifest.decision.temperature
        if manifest.task == "multi-label":
            factor = self._constant("inverse_temperature", np.array(inverse, np.float32), _FLOAT32)
            scaled = self._tensor("logits_scaled", list(spec.shape), _FLOAT32)
            after.append(self._operator("MUL", 1, [real, factor], [scaled], "MulOptions"))
            after.append(self._operator("LOGISTIC", 1, [scaled], [score]))
        else:
            softmax = self._operator("SOFTMAX", 1, [real], [score], "SoftmaxOptions")
            softmax.builtinOptions.beta = inverse
            after.append(softmax)
        self._graph.operators = self._needed([*self._graph.operators, *after], score)
        self._graph.outputs = np.array([score], np.int32)

    def to_bytes(self, metadata: bytes) -> bytes:
        self._model.signatureDefs = []
        entry = schema.MetadataT()
        entry.name, entry.buffer = METADATA_NAME, self._buffer(np.frombuffer(metadata, np.uint8))
        self._model.metadata = [*(self._model.metadata or []), entry]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _outputs(self) -> list[int]:
        return [int(index) for index in self._graph.outputs]

    def _needed(self, operators: Sequence[Any], wanted: int) -> list[Any]:
        needed, kept = {wanted}, []
        for operator in reversed(operators):
            if needed.intersection(int(index) for index in operator.outputs):
                needed.update(int(index) for index in operator.inputs)
                kept.append(operator)
        return kept[::-1]

    def _tensor(
        self, name: str, shape: list[int], kind: int, scale: float | None = None, zero_point: int = 0
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.hasRank = name, np.array(shape, np.int32), kind, True
        tensor.buffer = 0
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.array([scale], np.float32)
            tensor.quantization.zeroPoint = np.array([zero_point], np.int64)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _constant(self, name: str, values: Any, kind: int, scale: float | None = None) -> int:
        index = self._tensor(name, list(values.shape), kind, scale)
        self._graph.tensors[index].buffer = self._buffer(np.frombuffer(values.tobytes(), np.uint8))
        return index

    def _buffer(self, data: Any) -> int:
        buffer = schema.BufferT()
        buffer.data = data
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def _operator(
        self, name: str, version: int, inputs: list[int], outputs: list[int], options: str | None = None
    ) -> Any:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
        self._model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
        return operator
