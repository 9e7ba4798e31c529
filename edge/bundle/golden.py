"""Golden vectors: generated inputs and the outputs they gave, replayed before a bundle goes live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.arrays import pack, unpack
from edge.bundle.errors import BundleError, GoldenError

__all__ = ["Golden"]


@dataclass(frozen=True)
class Golden:
    """Inputs and the logits that the model gave for them when it was packaged.

    ``inputs[n, h, w, c]`` and ``outputs[n, C]`` hold tensor values as the interpreter takes and gives them
    (int8 in a bundle). ``kernel`` names the code path that made the outputs; on another one they may differ
    by up to ``tolerance`` quantization steps.
    """

    inputs: NDArray[Any]
    outputs: NDArray[Any]
    kernel: str
    tolerance: int

    def __post_init__(self) -> None:
        """Refuse vectors that could not tell a working model from a broken one."""
        if self.inputs.ndim != 4 or self.outputs.ndim != 2 or len(self.inputs) != len(self.outputs):
            raise BundleError("golden vectors: need inputs [n, h, w, c] and outputs [n, C]")
        if len(self.outputs) < 2 or not np.ptp(self.outputs.astype(np.float64), axis=0).any():
            raise GoldenError("golden vectors: the outputs do not vary, so they prove nothing")
        if self.tolerance < 0:
            raise BundleError("golden vectors: the tolerance is negative")

    def difference(self, outputs: NDArray[Any]) -> int:
        """Largest difference between ``outputs[n, C]`` and the expected ones, in quantization steps."""
        return int(np.abs(outputs.astype(np.int64) - self.outputs.astype(np.int64)).max())

    def to_npz(self) -> bytes:
        """The bytes of ``golden.npz``."""
        return pack(
            {
                "inputs": self.inputs,
                "outputs": self.outputs,
                "kernel": np.array(self.kernel),
                "tolerance": np.array(self.tolerance),
            }
        )

    @classmethod
    def from_npz(cls, data: bytes, origin: str = "golden.npz") -> Golden:
        """Read ``golden.npz``.

        Raises:
            BundleError: it does not hold golden vectors; the message starts with ``origin``.
        """
        arrays = unpack(data, origin)
        try:
            kernel, tolerance = arrays["kernel"].item(), arrays["tolerance"].item()
            inputs, outputs = arrays["inputs"], arrays["outputs"]
        except (KeyError, ValueError) as error:
            raise BundleError(f"{origin}: does not hold golden vectors") from error
        if not isinstance(kernel, str) or not isinstance(tolerance, int):
            raise BundleError(f"{origin}: kernel or tolerance is of the wrong kind")
        return cls(inputs, outputs, kernel, tolerance)
