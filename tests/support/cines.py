"""A bundle that outlines what is bright, and clips in which that beats, for tests of measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge.bundle.archive import write_bundle
from edge.bundle.golden import Golden
from edge.bundle.manifest import Manifest
from edge.imaging.frame import Frame, Header, Pixels
from edge.inference.predictor import Predictor

__all__ = ["FRACTION", "beating", "clip", "write_mask_bundle"]

_MODEL = Path(__file__).parents[1] / "data" / "mask.tflite"
_DRAFT = {
    "name": "bright",
    "version": "1.0.0",
    "intended_use": {"statement": "Outlines what is bright in test pictures.", "modality": ["US"]},
    "task": "segmentation",
    "labels": ["background", "ventricle"],
    "input": {"height": 64, "width": 64, "channels": 1},
    "steps": [{"op": "grayscale"}, {"op": "resize", "height": 64, "width": 64}],
    "outputs": [
        {"name": "logits", "index": 0, "shape": [1, 2]},
        {"name": "mask", "index": 1, "shape": [1, 64, 64, 2]},
    ],
    "decision": {"negative_label": "background", "thresholds": {"ventricle": {"value": 0.3}}},
    "quality": {},
    "ejection_fraction": "ventricle",
    "runtime": {"operators": [{"name": "CONV_2D", "version": 3}], "min_version": "2.14.0"},
    "target": "raspberry-pi-5",
    "provenance": {"created": "2026-01-01T00:00:00+00:00"},
}
FRACTION = 0.55
"""Ejection fraction of :func:`beating`."""
US = Header(modality="US")


def write_mask_bundle(path: Path, **changes: Any) -> Path:
    """Write the bundle; ``changes`` replace top-level fields of its manifest."""
    model = _MODEL.read_bytes()
    predictor = Predictor.from_model(model, Manifest.model_validate(_DRAFT | changes))
    inputs = np.concatenate([predictor.prepare(beating(2)[0]), predictor.prepare(beating(12)[10])])
    outputs = np.concatenate([predictor.engine.run(one[np.newaxis])[0] for one in inputs])
    golden = Golden(inputs, outputs, predictor.engine.kernel, 4)
    members = {
        "model.tflite": model,
        "labels.txt": b"background\nventricle\n",
        "golden.npz": golden.to_npz(),
        "MODEL_CARD.md": b"# bright\n",
        "sbom.cdx.json": b"{}\n",
    }
    return write_bundle(path, predictor.manifest, members)


def beating(frames: int, side: int = 256, seed: int = 0) -> Pixels:
    """uint8 ``[frames, side, side]``: an upright bright ellipse of 150 x 75 pixels (of 256) in gray noise,
    that contracts in 10 of 28 frames, from frame 4 on, and fills again."""
    random = np.random.default_rng(seed)
    rows, columns = (np.mgrid[:side, :side] - side / 2) * 256 / side
    clip = random.normal(60, 8, (frames, side, side))
    for number, frame in enumerate(clip):
        phase = (number - 4) % 28
        out = np.sin(np.pi / 2 * (phase / 10 if phase < 10 else (28 - phase) / 18)) ** 2
        thin = np.sqrt(1 - FRACTION * out)
        frame[np.hypot(rows / 75, columns / (37.5 * thin)) < 1] += 140
    return np.clip(clip, 0, 255).astype(np.uint8)


def clip(pixels: Pixels, identity: str = "clip", header: Header = US) -> list[Frame]:
    """The frames as a source yields those of a file."""
    return [
        Frame(one, f"{identity}#{index}", "study", "drop", index, header) for index, one in enumerate(pixels)
    ]
