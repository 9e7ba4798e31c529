"""A tiny real bundle for every test that needs one: it finds bright spots in 32 x 32 gray pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge.bundle.archive import write_bundle
from edge.bundle.golden import Golden
from edge.bundle.manifest import Manifest
from edge.imaging.frame import Frame, Pixels

if TYPE_CHECKING:
    from edge.inference.ood import OodModel

_MODEL = Path(__file__).parent / "data" / "tiny.tflite"
_DRAFT = {
    "name": "tiny",
    "version": "1.0.0",
    "intended_use": {"statement": "Finds bright spots in test pictures.", "modality": ["US"]},
    "task": "single-label",
    "labels": ["normal", "lesion"],
    "input": {"height": 32, "width": 32, "channels": 1},
    "steps": [{"op": "grayscale"}, {"op": "resize", "height": 32, "width": 32}],
    "outputs": [
        {"name": "logits", "index": 1, "shape": [1, 2]},
        {"name": "cam", "index": 0, "shape": [1, 8, 8, 2]},
        {"name": "embedding", "index": 2, "shape": [1, 4]},
    ],
    "decision": {
        "negative_label": "normal",
        "thresholds": {"lesion": {"value": 0.5, "min": 0.2, "max": 0.8}},
    },
    "quality": {},
    "runtime": {
        "operators": [
            {"name": "CONV_2D", "version": 3},
            {"name": "FULLY_CONNECTED", "version": 4},
            {"name": "MEAN", "version": 2},
        ],
        "min_version": "2.14.0",
    },
    "target": "raspberry-pi-5",
    "provenance": {"created": "2026-01-01T00:00:00+00:00"},
}


def tiny_picture(kind: str, seed: int = 0, side: int = 32) -> Pixels:
    """A picture that the tiny model calls ``normal`` or ``lesion``, or refuses: ``foreign`` or ``blank``."""
    random = np.random.default_rng(seed)
    if kind == "blank":
        return np.full((side, side), 90, np.uint8)
    rows, columns = np.mgrid[:side, :side]
    if kind == "foreign":
        return np.where((columns // (side // 8)) % 2, 250, 5).astype(np.uint8)
    pixels = random.normal(70, 15, (side, side))
    if kind == "lesion":
        row, column = random.uniform(side / 4, side * 3 / 4, 2)
        pixels[np.hypot(rows - row, columns - column) < side / 5] += 130
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _frame(kind: str, seed: int) -> Frame:
    return Frame(tiny_picture(kind, seed), f"{kind}-{seed}", "study", "test")


@pytest.fixture(scope="session")
def tiny_model() -> bytes:
    return _MODEL.read_bytes()


@pytest.fixture(scope="session")
def _tiny(tiny_model: bytes) -> tuple[Manifest, OodModel, Golden]:
    from edge.inference.ood import OodModel, fit
    from edge.inference.predictor import Predictor

    predictor = Predictor.from_model(tiny_model, Manifest.model_validate_json(_json(_DRAFT)))
    usual = [predictor.predict(_frame(kind, seed)) for kind in ("normal", "lesion") for seed in range(60)]
    embeddings = np.stack([p.embedding for p in usual if p.embedding is not None])
    ood = fit(embeddings[::2], embeddings[1::2], rejection=0.0)
    wide = OodModel(ood.mean, ood.whitening, ood.limit * 1.5)
    inputs = np.concatenate([predictor.prepare(tiny_picture(k, 99)) for k in ("normal", "lesion", "foreign")])
    outputs = np.concatenate([predictor.engine.run(vector[np.newaxis])[1] for vector in inputs])
    # Its steep weights make one step of the embedding several of a logit.
    golden = Golden(inputs, outputs, predictor.engine.kernel, 8)
    data = predictor.manifest.model_dump(mode="json")
    data["decision"]["ood"] = {"limit": wide.limit, "rejection": 0.02}
    return Manifest.model_validate_json(_json(data)), wide, golden


@pytest.fixture(scope="session")
def tiny_manifest(_tiny: tuple[Manifest, OodModel, Golden]) -> Callable[..., Manifest]:
    """``tiny_manifest(**changes)``: the tiny bundle's manifest, top-level fields replaced and validated."""

    def make(**changes: Any) -> Manifest:
        return Manifest.model_validate_json(_json({**_tiny[0].model_dump(mode="json"), **changes}))

    return make


@pytest.fixture(scope="session")
def tiny_members(
    _tiny: tuple[Manifest, OodModel, Golden], tiny_model: bytes
) -> Callable[[], dict[str, bytes]]:
    """``tiny_members()``: all members of the tiny bundle but the manifest."""

    def make() -> dict[str, bytes]:
        return {
            "model.tflite": tiny_model,
            "labels.txt": b"normal\nlesion\n",
            "golden.npz": _tiny[2].to_npz(),
            "ood.npz": _tiny[1].to_npz(),
            "MODEL_CARD.md": b"# tiny\n",
            "sbom.cdx.json": b"{}\n",
        }

    return make


@pytest.fixture(scope="session")
def tiny_bundle(
    tiny_manifest: Callable[..., Manifest], tiny_members: Callable[[], dict[str, bytes]]
) -> Callable[..., Path]:
    """``tiny_bundle(path, **changes)``: write the tiny bundle to ``path`` (see ``tiny_manifest``)."""

    def write(path: Path, **changes: Any) -> Path:
        return write_bundle(path, tiny_manifest(**changes), tiny_members())

    return write


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    """``tiny_run(recipe)``: files of a RUN (see ``tiny_runs``), trained once for all of xdist's workers."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make(name: str) -> dict[str, bytes]:
        from tiny_runs import tiny_run  # imports TensorFlow

        return tiny_run(name, shared / "tiny-runs")

    return make


@pytest.fixture(scope="session")
def picture() -> Callable[..., Pixels]:
    """``picture(kind, seed=0, side=32)``: ``normal``, ``lesion``, ``foreign`` or ``blank`` (see above)."""
    return tiny_picture


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data)
