"""From gray levels to the numbers that a brought model was trained on."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import InputSpec
from edge.errors import BadInputError
from edge.inference.engine import TensorSpec

__all__ = ["Scaling", "from_tensor", "input_spec", "parse_scaling"]


@dataclass(frozen=True)
class Scaling:
    """A pixel ``p`` of 0..255 becomes ``(p - mean) / std``; one value for all channels, or one for each."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Float32 images of uint8 ones, ``[..., C]``."""
        return np.asarray((pixels - np.array(self.mean)) / np.array(self.std), np.float32)


def parse_scaling(scale: str, mean: str, std: str, channels: int) -> Scaling:
    """The scaling of ``(p * scale - mean) / std``, as training code usually writes it.

    Args:
        scale: a number or a fraction: ``1``, ``1/255``, ``1/127.5``.
        mean: one number, or one for each channel separated by commas; in units after ``scale``.
        std: likewise.
        channels: of the model's input.

    Raises:
        BadInputError: naming the option.
    """
    factor = _numbers("--scale", scale, 1)[0]
    means, stds = _numbers("--mean", mean, channels), _numbers("--std", std, channels)
    if factor <= 0 or min(stds) <= 0:
        raise BadInputError(f"{'--scale' if factor <= 0 else '--std'}: must be greater than 0")
    return Scaling(tuple(each / factor for each in means), tuple(each / factor for each in stds))


def from_tensor(tensor: TensorSpec) -> Scaling:
    """The scaling under which an 8-bit input's values are the gray levels, less 128 where it has a sign."""
    low = np.iinfo(tensor.dtype).min
    return Scaling(((tensor.zero_point - low) * 1.0,), (1 / tensor.scale,))


def input_spec(tensor: TensorSpec, scaling: Scaling) -> InputSpec:
    """What the manifest says of an input tensor.

    Where one step of an 8-bit tensor is one gray level, the mean is moved by at most half a level so that
    each level has a value of its own: -1 to 1 in 255 steps would round every other level to its neighbour's.
    """
    mean = scaling.mean
    quantized = tensor.dtype in ("int8", "uint8")
    if quantized and all(math.isclose(each * tensor.scale, 1, rel_tol=1e-4) for each in scaling.std):
        own = float(tensor.zero_point - np.iinfo(tensor.dtype).min)
        if all(abs(each - own) <= 0.51 for each in mean):
            mean = (own,)
    _, height, width, channels = tensor.shape
    return InputSpec.model_validate(
        {
            "height": height,
            "width": width,
            "channels": channels,
            "dtype": tensor.dtype,
            "scale": tensor.scale,
            "zero_point": tensor.zero_point,
            "mean": mean,
            "std": scaling.std,
        }
    )


def _numbers(option: str, text: str, most: int) -> list[float]:
    numbers = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*([-+]?[\d.]+(?:e-?\d+)?)(?:\s*/\s*([\d.]+))?\s*", part)
        try:
            numbers.append(float(found[1]) / float(found[2] or 1) if found else math.nan)
        except (ValueError, ZeroDivisionError):
            numbers.append(math.nan)
    if len(numbers) not in (1, most) or not all(map(math.isfinite, numbers)):
        count = "a number" if most == 1 else f"a number, or {most} separated by commas"
        raise BadInputError(f"{option}: '{text}' must be {count}; fractions like 1/255 are fine")
    return numbers
