"""Golden inputs: generated pictures, never a training image, that make a network's outputs vary."""

from __future__ import annotations

import numpy as np

from edge.bundle.golden import Golden
from edge.bundle.manifest import InputSpec
from edge.imaging.frame import Pixels
from edge.inference.predictor import Predictor

__all__ = ["TOLERANCE", "golden", "pictures"]

TOLERANCE = 4
"""Steps by which logits may differ on another kernel; XNNPACK and the built-in ones were up to 3 apart."""

_GRIDS = (2, 3, 4, 6, 8, 12)


def pictures(spec: InputSpec) -> list[Pixels]:
    """Pictures of the input's size: blocks from coarse to fine, a disc and a ramp; the same every time.

    They are blocks and ramps because those also compress to almost nothing.
    """
    random = np.random.default_rng(20)
    rows, columns = np.mgrid[: spec.height, : spec.width]
    found = []
    for cells in _GRIDS:
        grid = random.integers(0, 256, (cells, cells, spec.channels), np.uint8)
        found.append(grid[rows * cells // spec.height, columns * cells // spec.width])
    across, down = columns / spec.width - 0.5, rows / spec.height - 0.5
    disc = np.where(across**2 + down**2 < 0.1, 210, 40)
    ramp = 255 * rows // spec.height
    found += [np.repeat(gray[..., np.newaxis], spec.channels, axis=-1) for gray in (disc, ramp)]
    shape = (spec.height, spec.width) if spec.channels == 1 else (spec.height, spec.width, spec.channels)
    return [np.asarray(picture, np.uint8).reshape(shape) for picture in found]


def golden(predictor: Predictor) -> Golden:
    """What a model gives for :func:`pictures`, on this machine's kernel.

    Raises:
        BundleError: the outputs do not vary.
        EngineError: the interpreter failed.
    """
    logits = next(spec for spec in predictor.manifest.outputs if spec.name == "logits")
    inputs = [predictor.quantize(picture) for picture in pictures(predictor.manifest.input)]
    outputs = [predictor.engine.run(tensor)[logits.index] for tensor in inputs]
    engine = predictor.engine
    return Golden(
        np.concatenate(inputs), np.concatenate(outputs), f"{engine.name} {engine.kernel}", TOLERANCE
    )
