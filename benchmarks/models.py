"""Size and speed of every network in int8, at 96 x 96 and 224 x 224 gray pixels; prints JSON.

Weights are random: neither figure depends on them. ``ratio`` is the interpreter's time over that of the
MobileNet of width 1 at the same size; the networks take turns, so that other work on the machine is in all of
them alike.
Needs the trainer extra. Run from the project's folder: python benchmarks/models.py
"""

from __future__ import annotations

import json
from statistics import median
from time import perf_counter

import numpy as np

from edge.bundle.manifest import InputSpec
from edge.inference.tflite import TFLiteEngine
from trainer.compression.quantization import to_int8
from trainer.models import BUILDERS, build
from trainer.packaging.vectors import pictures
from trainer.recipe import ModelSpec

SIDES = (96, 224)
NARROW = (0.35, 0.5)
CLASSES = 3
ROUNDS = 60


def measure(side: int) -> list[dict[str, float | str]]:
    specs = [ModelSpec(kind=kind) for kind in sorted(BUILDERS)]
    specs += [ModelSpec(kind="mobilenet", width=width) for width in NARROW]
    calibration = np.stack(pictures(InputSpec(height=side, width=side, channels=1)))[..., np.newaxis]
    networks = [build(spec, (side, side, 1), CLASSES) for spec in specs]
    files = [to_int8(network, calibration) for network in networks]
    engines = [TFLiteEngine(file) for file in files]
    tensor = (calibration[:1].astype(np.int16) - 128).astype(np.int8)
    times: list[list[float]] = [[] for _ in engines]
    for _ in range(ROUNDS):
        for engine, taken in zip(engines, times, strict=True):
            engine.run(tensor)  # warms the caches that the others have taken
            start = perf_counter()
            engine.run(tensor)
            taken.append(1000 * (perf_counter() - start))
    milliseconds = [median(taken) for taken in times]
    anchor = milliseconds[specs.index(ModelSpec(kind="mobilenet"))]
    return [
        {
            "network": spec.kind,
            "kernel": f"{engine.name}, {engine.kernel}",
            "width": spec.width,
            "side": side,
            "parameters": network.count_params(),
            "int8_bytes": len(file),
            "interpreter_ms": round(taken, 3),
            "ratio": round(taken / anchor, 3),
        }
        for spec, network, file, engine, taken in zip(
            specs, networks, files, engines, milliseconds, strict=True
        )
    ]


if __name__ == "__main__":
    print(json.dumps([row for side in SIDES for row in measure(side)], indent=2))
