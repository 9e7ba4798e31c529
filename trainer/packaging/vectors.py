"""Golden inputs: generated pictures, never a training image, that make a network's outputs vary."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge.bundle.errors import BundleError
from edge.bundle.golden import Golden
from edge.bundle.manifest import InputSpec
from edge.imaging.frame import Pixels
from edge.inference.predictor import Predictor
from edge.inference.tflite import TFLiteEngine

__all__ = ["LEAST_TOLERANCE", "golden", "pictures"]

LEAST_TOLERANCE = 4
"""Steps by which logits may differ on another kernel, at least; trained networks were up to 3 apart."""

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


def golden(predictor: Predictor, model: bytes) -> Golden:
    """What a model gives for :func:`pictures` on this machine's kernel, and how far other kernels may be off.

    The tolerance is twice the difference to the interpreter's built-in kernels, which boards without XNNPACK
    use, and at least :data:`LEAST_TOLERANCE`.

    Args:
        predictor: of the model.
        model: the flatbuffer's bytes.

    Raises:
        BundleError: the outputs do not vary, or no more than they do between kernels.
        EngineError: the interpreter failed.
    """
    index = next(spec.index for spec in predictor.manifest.outputs if spec.name == "logits")
    inputs = [predictor.quantize(picture) for picture in pictures(predictor.manifest.input)]
    engines = (predictor.engine, TFLiteEngine(model, delegates=False))
    outputs, builtin = (np.concatenate([engine.run(one)[index] for one in inputs]) for engine in engines)
    kernel = f"{predictor.engine.name} {predictor.engine.kernel}"
    exact = Golden(np.concatenate(inputs), outputs, kernel, 0)
    tolerance = max(2 * exact.difference(builtin), LEAST_TOLERANCE)
    if 2 * tolerance > np.ptp(outputs.astype(int), axis=0).max():
        raise BundleError(
            f"golden vectors: the outputs vary hardly more than the {tolerance} steps between kernels, so "
            "the model would not decide the same on every board"
        )
    return replace(exact, tolerance=tolerance)
