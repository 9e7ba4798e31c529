"""The closed list of preprocessing Steps, as a manifest or a recipe declares them.

Each is exact in integers on 8-bit pixels, so that Python and JavaScript agree to the last bit; the test
vectors in ``docs/reference/step-vectors.json`` hold both to it. What each computes is defined here, in its
docstring; ``edge.imaging.steps`` computes it. An image is uint8 ``[H, W]`` (gray) or ``[H, W, 3]`` (RGB).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge.schema import Contract

__all__ = [
    "Crop",
    "Denoise",
    "Grayscale",
    "Invert",
    "Normalize",
    "Pad",
    "Resize",
    "Rgb",
    "Step",
    "Steps",
]

PerMille = Annotated[int, Field(ge=0, le=1000)]
Side = Annotated[int, Field(ge=1, le=4096)]


class Grayscale(Contract):
    """RGB to gray: ``(9798 R + 19235 G + 3735 B + 16384) >> 15`` (ITU-R BT.601 luma). Gray stays as it is."""

    op: Literal["grayscale"] = "grayscale"


class Rgb(Contract):
    """Gray to RGB by repeating the channel. RGB stays as it is."""

    op: Literal["rgb"] = "rgb"


class Invert(Contract):
    """``255 - p``."""

    op: Literal["invert"] = "invert"


class Crop(Contract):
    """Remove margins, given in per mille of the side: ``top * H // 1000`` rows from above, and so on.

    At least one row and one column are kept: an image too small for that is refused.
    """

    op: Literal["crop"] = "crop"
    top: PerMille = 0
    bottom: PerMille = 0
    left: PerMille = 0
    right: PerMille = 0

    @model_validator(mode="after")
    def _leaves_something(self) -> Crop:
        if self.top + self.bottom >= 1000 or self.left + self.right >= 1000:
            raise ValueError("the margins leave nothing of the image")
        return self


class Pad(Contract):
    """Pad the shorter side with ``value`` to a square, centred; an odd pixel goes below or right."""

    op: Literal["pad"] = "pad"
    value: Annotated[int, Field(ge=0, le=255)] = 0


class Resize(Contract):
    """Resize to ``height x width``.

    Along an axis of ``S`` pixels to ``D``, output pixel ``j`` is a sum of inputs with integer weights:

    - ``area``: the overlap of ``[j*S, (j+1)*S)`` with each input's ``[i*D, (i+1)*D)``; they sum to ``S``.
    - ``linear``: with ``n = (2j+1)*S - D`` clamped to ``[0, 2*D*(S-1)]``, ``i = n // (2D)`` and
      ``r = n % (2D)``: ``2D - r`` for input ``i`` and ``r`` for input ``i+1``; the weights sum to ``2D``.

    With ``N`` the product of both axes' sums, the result is ``(2 * sum + N) // (2 * N)``: halves round up.
    ``area`` never aliases when shrinking; ``linear`` is smooth when enlarging.
    """

    op: Literal["resize"] = "resize"
    height: Side
    width: Side
    method: Literal["area", "linear"] = "area"


class Denoise(Contract):
    """Median of each pixel's ``kernel x kernel`` neighbourhood, per channel, edges repeated outward."""

    op: Literal["denoise"] = "denoise"
    kernel: Literal[3, 5] = 3


class Normalize(Contract):
    """Stretch the range between two percentiles of the image's own values to 0..255.

    With ``n`` values (all channels together) and their cumulative histogram ``c``: ``lo`` is the least with
    ``1000 * c[v] > low * n`` and ``hi`` the least with ``1000 * c[v] >= high * n``. If ``hi <= lo`` the image
    stays as it is; else ``p`` becomes
    ``(2 * 255 * (clamp(p, lo, hi) - lo) + (hi - lo)) // (2 * (hi - lo))``.
    """

    op: Literal["normalize"] = "normalize"
    low: Annotated[int, Field(ge=0, le=499, description="lower percentile, per mille")] = 5
    high: Annotated[int, Field(ge=501, le=1000, description="upper percentile, per mille")] = 995


Step = Annotated[
    Grayscale | Rgb | Invert | Crop | Pad | Resize | Denoise | Normalize, Field(discriminator="op")
]
Steps = Annotated[tuple[Step, ...], Field(min_length=1, max_length=16)]
