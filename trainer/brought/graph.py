"""Brings a ``.tflite`` graph into the form that carts run: logits, with the evidence for them.

The flatbuffer itself is edited, whatever framework it comes from. Nothing that a network computes changes,
which :mod:`trainer.brought.check` proves on images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge.errors import BadInputError
from trainer.packaging.operators import operators

__all__ = ["Brought", "bring_into_form"]

Ending = Literal["softmax", "log-softmax", "sigmoid", "logits"]

OP, TYPE = schema.BuiltinOperator, schema.TensorType
RESHAPING = (OP.RESHAPE, OP.SQUEEZE)
TO_NHWC = [0, 2, 3, 1]


@dataclass(frozen=True)
class Brought:
    """A graph with one image in and its outputs named ``logits``, ``cam`` and ``embedding``.

    ``ending`` is what stood behind the logits; ``notes`` say what was changed and what could not be
    recovered, a sentence each; ``quantized`` that the file's input is of 8 bits.
    """

    model: bytes
    height: int
    width: int
    channels: int
    classes: int
    outputs: tuple[str, ...]
    ending: Ending
    quantized: bool
    notes: tuple[str, ...]


def bring_into_form(model: bytes, origin: str) -> Brought:
    """Take softmax or sigmoid off, make two logits of one, and add the outputs that can be recovered.

    Where the network ends in a global average and one dense layer, the average becomes the ``embedding`` and
    the dense layer's own weights, as a 1x1 convolution on what is averaged, give the ``cam``, whose mean plus
    the bias is exactly the logits (Zhou et al. 2016). Behind another end only the dense layer's input is
    known, the embedding; a file that is quantized already gets no new operator, hence no map.

    Raises:
        BadInputError: no TensorFlow Lite model, or not one that takes a single image of fixed size and gives
            one score for each label; the message starts with ``origin``.
    """
    operators(model, origin)  # refuses what is damaged
    graph = _Graph(model, origin)
    graph.start_at_image()
    ending = graph.end_at_logits()
    graph.recover()
    return graph.finish(ending)


class _Graph:
    """The file's object tree while it is edited."""

    def __init__(self, model: bytes, origin: str) -> None:
        self.tree: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
        self.origin, self.notes = origin, list[str]()
        if len(self.tree.subgraphs) != 1:
            raise BadInputError(
                f"{origin}: has several subgraphs (loops or branches), which carts do not run"
            )
        self.part = self.tree.subgraphs[0]
        inputs, outputs = list(self.part.inputs), list(self.part.outputs)
        if len(inputs) != 1 or len(outputs) != 1:
            raise BadInputError(
                f"{origin}: has {len(inputs)} inputs and {len(outputs)} outputs; give a model with one image "
                "in and one vector of scores out"
            )
        self.image, self.end = int(inputs[0]), int(outputs[0])
        self.named: dict[str, int] = {}

    def start_at_image(self) -> None:
        """Leave out what stands between the file's input and an image ``[1, H, W, C]`` of the first layer's
        type."""
        while True:
            users = [one for one in self.part.operators if self.image in list(one.inputs)]
            first = users[0] if len(users) == 1 else None
            quantizes = first is not None and self._is(first, OP.QUANTIZE)
            turns = (
                first is not None
                and self._is(first, OP.TRANSPOSE)
                and self._constant(first.inputs[1]).tolist() == TO_NHWC
            )
            if first is None or not (quantizes or turns):
                break
            self.part.operators.remove(first)
            self.image = int(first.outputs[0])
            self.notes.append("Images go in as 8-bit values." if quantizes else "Channels come last now.")
        shape = self._shape(self.image)
        signature = self.part.tensors[self.image].shapeSignature
        open_ = signature is not None and any(side < 1 for side in list(signature)[1:])
        if len(shape) != 4 or shape[0] != 1 or shape[3] not in (1, 3) or open_ or min(shape[1:3]) < 8:
            said = ", ".join(map(str, shape))
            raise BadInputError(
                f"{self.origin}: takes [{said}]{' with open sides' if open_ else ''}; carts run models that "
                "take one image [1, height, width, channels] of a fixed size, at least 8 pixels a side, with "
                "1 or 3 channels"
            )

    def end_at_logits(self) -> Ending:
        """Leave out what stands behind the logits."""
        ending: Ending = "logits"
        while (last := self._maker(self.end)) is not None:
            if self._is(last, OP.SOFTMAX) and ending == "logits":
                ending = "softmax"
            elif self._is(last, OP.LOG_SOFTMAX) and ending == "logits":
                ending = "log-softmax"
            elif self._is(last, OP.LOGISTIC) and ending == "logits":
                ending = "sigmoid"
            elif not self._is(last, OP.DEQUANTIZE, *(RESHAPING if ending == "logits" else ())):
                break
            if self._shape(last.inputs[0])[-1] != self._shape(self.end)[-1]:
                break
            self.part.operators.remove(last)
            self.end = int(last.inputs[0])
        shape = self._shape(self.end)
        if len(shape) != 2 or shape[0] != 1:
            said = ", ".join(map(str, shape))
            raise BadInputError(
                f"{self.origin}: gives [{said}]; carts need one score for each label, [1, labels]"
            )
        if ending != "logits":
            self.notes.append(f"The {ending} at the end was taken off: decisions start from logits.")
        if shape[1] == 1:
            self._split_single()
        self.named["logits"] = self.end
        return ending

    def recover(self) -> None:
        """Name the embedding and add the map, where the end of the network allows it."""
        head = self._maker(self.end)
        if (
            head is None
            or not self._is(head, OP.FULLY_CONNECTED)
            or head.builtinOptions.fusedActivationFunction
        ):
            self.notes.append(
                "The network does not end in a dense layer: heat map and feature check are off; what lies "
                "where is still checked."
            )
            return
        before = int(head.inputs[0])
        length = int(np.prod(self._shape(before)))
        pooled = self._maker(before)
        while pooled is not None and self._is(pooled, *RESHAPING):
            pooled = self._maker(pooled.inputs[0])
        features = self._averaged(pooled)
        self.named["embedding"] = before if len(self._shape(before)) == 2 else self._flat(before, length)
        if features is None:
            self.notes.append("The network does not end in a global average: the heat map is off.")
        elif self._type(features) != TYPE.FLOAT32:
            self.notes.append("The file is quantized already, so no map can be added: the heat map is off.")
        else:
            self.named["cam"] = self._map(features, head)
            self.notes.append(
                "Heat map and feature check were recovered from the global average and the dense layer "
                "behind it."
            )

    def finish(self, ending: Ending) -> Brought:
        """The edited file, without what nobody needs any more."""
        for name, tensor in self.named.items():
            self.part.tensors[tensor].name = name.encode()
        self._drop_unused()
        self.part.inputs = [self.image]
        self.part.outputs = list(self.named.values())
        # Names that are no longer true, and a least version that the converter may have got wrong.
        self.tree.signatureDefs, self.tree.metadata = [], []
        for tensor in self.part.tensors:
            tensor.shapeSignature = None
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.tree.Pack(builder), b"TFL3")
        _, height, width, channels = self._shape(self.image)
        return Brought(
            model=bytes(builder.Output()),
            height=height,
            width=width,
            channels=channels,
            classes=self._shape(self.named["logits"])[1],
            outputs=tuple(self.named),
            ending=ending,
            quantized=self._type(self.image) != TYPE.FLOAT32,
            notes=tuple(self.notes),
        )

    def _split_single(self) -> None:
        """Two logits, minus and plus half of the one: their softmax is its sigmoid."""
        head = self._maker(self.end)
        if (
            head is None
            or not self._is(head, OP.FULLY_CONNECTED)
            or self._type(head.inputs[1]) != TYPE.FLOAT32
            or head.builtinOptions.fusedActivationFunction
        ):
            raise BadInputError(
                f"{self.origin}: gives a single score that does not come from a float dense layer; give a "
                "model with one output for each of the two labels, or the float file of this one"
            )
        head.inputs = list(head.inputs)
        weights = self._constant(head.inputs[1])
        head.inputs[1] = self._add("halves", np.concatenate([-weights, weights]) / 2)
        if len(head.inputs) > 2 and head.inputs[2] >= 0:
            bias = self._constant(head.inputs[2])
            head.inputs[2] = self._add("half_biases", np.concatenate([-bias, bias]) / 2)
        self.part.tensors[self.end].shape = [1, 2]
        self.notes.append("Its single score became two logits: the first label is its absence.")

    def _averaged(self, pooled: Any) -> int | None:
        """The feature map ``[1, h, w, D]`` that ``pooled`` takes the mean of, if that is what it does."""
        if pooled is None:
            return None
        source = int(pooled.inputs[0])
        shape = self._shape(source)
        if len(shape) != 4:
            return None
        if self._is(pooled, OP.MEAN):
            axes = {int(axis) % 4 for axis in self._constant(pooled.inputs[1]).reshape(-1)}
            return source if axes == {1, 2} else None
        options = pooled.builtinOptions
        if not self._is(pooled, OP.AVERAGE_POOL_2D) or options.fusedActivationFunction:
            return None
        return source if (options.filterHeight, options.filterWidth) == shape[1:3] else None

    def _map(self, features: int, head: Any) -> int:
        weights = self._constant(head.inputs[1])
        classes, depth = weights.shape
        kernel = self._add("cam_kernel", weights.reshape(classes, 1, 1, depth))
        bias = self._add("cam_bias", np.zeros(classes, np.float32))
        _, height, width, _ = self._shape(features)
        options = schema.Conv2DOptionsT()
        options.padding, options.strideH, options.strideW = schema.Padding.VALID, 1, 1
        found = self._tensor("cam", [1, height, width, classes])
        self._operate(
            OP.CONV_2D, [features, kernel, bias], found, schema.BuiltinOptions.Conv2DOptions, options
        )
        return found

    def _flat(self, source: int, length: int) -> int:
        options = schema.ReshapeOptionsT()
        options.newShape = [1, length]
        tensor = self.part.tensors[source]
        found = self._tensor("embedding", [1, length], tensor.type, tensor.quantization)
        shape = self._add("embedding_shape", np.array([1, length], np.int32), TYPE.INT32)
        self._operate(OP.RESHAPE, [source, shape], found, schema.BuiltinOptions.ReshapeOptions, options)
        return found

    def _operate(self, kind: int, inputs: list[int], output: int, options_type: int, options: Any) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = kind, min(kind, 127), 1
        self.tree.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.tree.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = options_type, options
        self.part.operators.append(operator)

    def _add(self, name: str, values: NDArray[Any], kind: int = TYPE.FLOAT32) -> int:
        """A constant."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.tree.buffers.append(buffer)
        found = self._tensor(name, list(values.shape), kind)
        self.part.tensors[found].buffer = len(self.tree.buffers) - 1
        return found

    def _tensor(self, name: str, shape: list[int], kind: int = TYPE.FLOAT32, quantization: Any = None) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name.encode(), shape, kind
        tensor.buffer, tensor.quantization = 0, quantization
        self.part.tensors.append(tensor)
        return len(self.part.tensors) - 1

    def _drop_unused(self) -> None:
        """Operators that no output needs; codes that no operator has; contents that no tensor has."""
        needed = set(self.named.values())
        kept = []
        for operator in reversed(self.part.operators):
            if needed & set(map(int, operator.outputs)):
                needed |= set(map(int, operator.inputs))
                kept.append(operator)
        self.part.operators = kept[::-1]
        codes = sorted({operator.opcodeIndex for operator in kept})
        self.tree.operatorCodes = [self.tree.operatorCodes[code] for code in codes]
        for operator in kept:
            operator.opcodeIndex = codes.index(operator.opcodeIndex)
        used = {self.part.tensors[tensor].buffer for tensor in needed if tensor >= 0}
        for number, buffer in enumerate(self.tree.buffers):
            if number not in used:
                buffer.data = None

    def _maker(self, tensor: int) -> Any | None:
        """The operator that a tensor comes from."""
        return next((one for one in self.part.operators if int(tensor) in list(one.outputs)), None)

    def _is(self, operator: Any, *kinds: int) -> bool:
        code = self.tree.operatorCodes[operator.opcodeIndex]
        return max(code.builtinCode, code.deprecatedBuiltinCode) in kinds

    def _type(self, tensor: int) -> int:
        return int(self.part.tensors[int(tensor)].type)

    def _shape(self, tensor: int) -> tuple[int, ...]:
        shape = self.part.tensors[int(tensor)].shape
        return () if shape is None else tuple(int(side) for side in shape)

    def _constant(self, tensor: int) -> NDArray[Any]:
        """A constant's values; an empty array where the tensor is no constant of a known type."""
        found = self.part.tensors[int(tensor)]
        data = self.tree.buffers[found.buffer].data
        kind = {TYPE.FLOAT32: np.float32, TYPE.INT32: np.int32, TYPE.INT64: np.int64}.get(found.type)
        if data is None or kind is None:
            return np.zeros(0)
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), kind).reshape(self._shape(tensor))
