"""Which layers of an int8 model stray from the float one, and by how much."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.schema import Contract

__all__ = ["LayerError", "layer_errors"]

Floats = NDArray[np.float64]

IMAGES = 32


class LayerError(Contract):
    """How far a layer's int8 output is from the float one, on tuning images.

    ``error`` is what has come together there, ``added`` what the layer itself adds to what reaches it: 0 to
    1, root mean square of the difference over the standard deviation of the float output, channel by channel
    and at most 1 for each, so that a large channel does not hide that the small ones are lost.
    """

    layer: str
    operator: str
    added: float
    error: float


def layer_errors(float_model: bytes, int8_model: bytes, pixels: NDArray[np.uint8]) -> tuple[LayerError, ...]:
    """Compare every layer of two conversions of one network; the layer that adds most error comes first.

    Both run with all tensors preserved. Errors of layers in a row add up as powers do, so a layer's own is
    the root of its squared error less that of its worst input.

    Args:
        float_model: the network as a float32 ``.tflite`` file.
        int8_model: the same network as an int8 one.
        pixels: uint8 ``[n, H, W, C]``; at most 32 of them, evenly taken, are used.
    """
    images = pixels[:: max(1, -(-len(pixels) // IMAGES))]
    truth, rounded = _Run(float_model), _Run(int8_model)
    names = {name: index for index, name in truth.names.items()}
    pairs = [(index, names[name]) for index, name in rounded.names.items() if name in names]
    sums = {index: np.zeros((4, rounded.channels(index))) for index, _ in pairs}
    for image in images:
        truth.run(image)
        rounded.run(image)
        for index, other in pairs:
            wanted = truth.value(other)
            off = rounded.value(index) - wanted
            sums[index] += np.stack([np.ones_like(off), wanted, wanted**2, off**2]).sum(axis=1)
    powers = {index: _power(*figures) for index, figures in sums.items()}
    found = []
    for operator, inputs, output in rounded.operators:
        reaching = max((powers.get(index, 0.0) for index in inputs), default=0.0)
        if output not in powers:
            powers[output] = reaching  # a change of scale that the float model has no counterpart of
            continue
        own = max(0.0, powers[output] - reaching)
        found.append(
            LayerError(
                layer=rounded.layer(output),
                operator=operator,
                added=round(float(np.sqrt(own)), 5),
                error=round(float(np.sqrt(powers[output])), 5),
            )
        )
    return tuple(sorted(found, key=lambda one: -one.added))


def _power(count: Floats, total: Floats, squares: Floats, off: Floats) -> float:
    variance = squares / count - (total / count) ** 2
    # A channel that always says the same has no signal to lose.
    speaks = variance > 1e-12
    return (
        float(np.minimum(1.0, off[speaks] / count[speaks] / variance[speaks]).mean()) if speaks.any() else 0.0
    )


class _Run:
    """A model whose every tensor can be read after a run; ``names`` are those of activations."""

    def __init__(self, model: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this takes memory
            self.interpreter = Interpreter(
                model_content=model,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
        self.interpreter.allocate_tensors()
        self.details: dict[int, dict[str, Any]] = {
            d["index"]: d for d in self.interpreter.get_tensor_details()
        }
        signature = self.interpreter.get_signature_runner().get_output_details()
        self.outputs = {detail["name"]: name for name, detail in signature.items()}
        # No public call lists the operators with their tensors.
        listed = self.interpreter._get_ops_details()
        self.operators = [
            (one["op_name"], [int(i) for i in one["inputs"] if i >= 0], int(one["outputs"][0]))
            for one in listed
        ]
        self.names: dict[int, str] = {
            output: self.outputs.get(self.details[output]["name"], self.details[output]["name"])
            for _, _, output in self.operators
        }
        self.input = self.interpreter.get_input_details()[0]

    def run(self, image: NDArray[np.uint8]) -> None:
        """Run one image ``[H, W, C]``."""
        shifted = image[np.newaxis].astype(np.int16) - 128
        is_float = self.input["dtype"] == np.float32
        tensor = shifted.astype(np.float32) / 128 if is_float else shifted.astype(np.int8)
        self.interpreter.set_tensor(self.input["index"], tensor)
        self.interpreter.invoke()

    def channels(self, index: int) -> int:
        """How many a tensor has."""
        return int(self.details[index]["shape"][-1])

    def value(self, index: int) -> Floats:
        """A tensor of the last run, as real numbers ``[places, channels]``."""
        scale, zero_point = self.details[index]["quantization"]
        values: Floats = self.interpreter.get_tensor(index).astype(np.float64)
        return ((values - zero_point) * scale if scale else values).reshape(-1, values.shape[-1])

    def layer(self, index: int) -> str:
        """The network's name of the layer whose output this is; fused layers go by their last."""
        parts = self.names[index].split(";")[0].split("/")
        return parts[min(1, len(parts) - 1)]
