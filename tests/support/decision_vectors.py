"""Vectors that Python and JavaScript decide alike: quality gates, decisions, regions and ids.

``python tests/support/decision_vectors.py`` writes ``docs/reference/decision-vectors.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from step_reference import _image, _pack

from edge.agent.identity import Identity
from edge.agent.model import covers
from edge.bundle.manifest import IntendedUse, Manifest, QualityLimits
from edge.bundle.steps import Crop, Grayscale, Pad, Resize, Step
from edge.imaging import quality
from edge.imaging.frame import Header, Pixels
from edge.imaging.region import seen_region
from edge.imaging.steps import apply_steps
from edge.inference.decision import decide
from edge.inference.ood import OodModel, layout
from edge.inference.prediction import Prediction

VECTORS = Path(__file__).parents[2] / "docs" / "reference" / "decision-vectors.json"

LABELS = ["normal", "lesion", "fluid"]
LIMITS = {
    "min_side": 16,
    "brightness": {"min": 20, "max": 200},
    "contrast": {"min": 12, "max": 90},
    "sharpness": {"min": 0.05, "max": 12},
    "max_colour": 40,
}
MANIFEST: dict[str, Any] = {
    "name": "vectors",
    "version": "1.0.0",
    "intended_use": {"statement": "None."},
    "task": "single-label",
    "labels": LABELS,
    "input": {"height": 8, "width": 8, "channels": 1},
    "steps": [{"op": "grayscale"}, {"op": "resize", "height": 8, "width": 8}],
    "outputs": [
        {"name": "logits", "index": 0, "shape": [1, 3]},
        {"name": "embedding", "index": 1, "shape": [1, 2]},
    ],
    "decision": {},
    "quality": LIMITS,
    "runtime": {"operators": [], "min_version": "2.14.0"},
    "target": "phone",
    "provenance": {"created": "2026-01-01"},
}
DECISION: dict[str, Any] = {
    "temperature": 1.0,
    "negative_label": "normal",
    "thresholds": {"lesion": {"value": 0.5}, "fluid": {"value": 0.2}},
}
GATE = {"limit": 2.0, "rejection": 0.01}
LAYOUT_GATE = {**GATE, "layout": 2}
LAYOUT = {
    "layout_mean": np.array([1, 1, -1, -1], np.float32),
    "layout_whitening": np.array([[1, 0], [0.5, 0.25], [0, 1], [-1, 0.75]], np.float32),
}
OOD = OodModel(np.array([1, -1], np.float32), np.array([[0.5, 0, 1], [0, 2, 0.25]], np.float32), 2.0)


def quality_vectors() -> Iterator[dict[str, Any]]:
    for name, pixels in _pictures():
        model_pixels = apply_steps(pixels, [Grayscale(), Resize(height=8, width=8)])
        measures = quality.measure(pixels, model_pixels)
        reasons = quality.check(measures, QualityLimits.model_validate(LIMITS))
        yield {
            "name": name,
            "image": _pack(pixels),
            "model_image": _pack(model_pixels),
            "limits": LIMITS,
            "measures": measures,
            "reasons": [reason.value for reason in reasons],
        }


def _pictures() -> Iterator[tuple[str, Pixels]]:
    rows, columns = np.mgrid[:40, :56]
    smooth = np.asarray(110 + 40 * np.sin(rows / 7) * np.cos(columns / 9), np.uint8)
    yield "smooth", smooth
    yield "small", _image(9, 12)
    yield "one pixel", _image(1, 1)
    yield "one row", _image(1, 30)
    yield "blank", np.full((20, 20), 90, np.uint8)
    yield "black", np.zeros((20, 20, 3), np.uint8)
    yield "dark", smooth // 12
    yield "bright", 255 - smooth // 12
    yield "noise", _image(40, 40)
    yield "two colours", np.where(rows[..., None] > 20, (250, 20, 10), (10, 30, 200)).astype(np.uint8)
    yield "large enough to be sampled", np.tile(_image(19, 23), (17, 14))
    yield "noise in colour", _image(30, 30, 3)


def decision_vectors() -> Iterator[dict[str, Any]]:
    for name, logits, changes, rest in _decisions():
        task = rest.get("task", "single-label")
        decision = {**DECISION, **changes}
        manifest = Manifest.model_validate_json(json.dumps({**MANIFEST, "task": task, "decision": decision}))
        embedding = rest.get("embedding")
        measures = rest.get("measures", {})
        prediction = Prediction(
            logits=np.array(logits, np.float32),
            embedding=None if embedding is None else np.array(embedding, np.float32),
            layout=None if "layout" not in rest else np.array(rest["layout"], np.float32),
            quality=measures,
        )
        ood = replace(OOD, **LAYOUT) if "layout" in rest else OOD
        if embedding is None and "layout" in rest:
            nothing = np.zeros(0, np.float32)
            ood = replace(ood, mean=nothing, whitening=nothing.reshape(0, 0))
        outcome = decide(prediction, manifest, ood if decision.get("ood") else None)
        yield {
            "name": name,
            "task": task,
            "labels": LABELS,
            "decision": manifest.decision.model_dump(mode="json"),
            "quality": LIMITS,
            "measures": measures,
            "logits": [float(value) for value in prediction.logits],
            "embedding": embedding,
            "layout": rest.get("layout"),
            "ood": {
                "mean": ood.mean.tolist(),
                "whitening": ood.whitening.ravel().tolist(),
                "layout_mean": ood.layout_mean.tolist(),
                "layout_whitening": ood.layout_whitening.ravel().tolist(),
            },
            "outcome": {
                "decision": outcome.decision,
                "label": outcome.label,
                "probability": outcome.probability,
                "probabilities": outcome.probabilities,
                "thresholds": outcome.thresholds,
                "reasons": [reason.value for reason in outcome.reasons],
                "ood_score": outcome.ood_score,
                "ood_limit": outcome.ood_limit,
            },
        }


def _decisions() -> Iterator[tuple[str, list[float], dict[str, Any], dict[str, Any]]]:
    yield "a positive", [0, 3, 0], {}, {}
    yield "nothing", [4, 0, 0], {}, {}
    yield "two positives: the one further above", [0, 2.2, 1.9], {}, {}
    same = {"lesion": {"value": 0.25}, "fluid": {"value": 0.25}}
    yield "two positives alike: the first", [0, 1, 1], {"thresholds": same}, {}
    half = {"lesion": {"value": 0.5}}
    yield "exactly at the threshold", [0, 0, -1000], {"thresholds": half}, {}
    yield "a threshold of nothing", [5, 0, 0], {"thresholds": {"lesion": {"value": 0}}}, {}
    yield "no label means nothing", [4, 0, 0], {"negative_label": None}, {}
    yield "no label has a threshold", [0, 4, 0], {"thresholds": {}}, {}
    yield "temperature", [0, 3, 0], {"temperature": 2.5}, {}
    yield "large logits", [900, 0, -900], {}, {}
    yield "uncertain", [0.2, 0.1, 0], {"abstain_below": 0.5}, {}
    yield "certain enough", [2, 0, 0], {"abstain_below": 0.5}, {}
    yield "several labels, two positive", [-3, 2, 0.5], {}, {"task": "multi-label"}
    yield "several labels, none", [-3, -2, -4], {"temperature": 0.7}, {"task": "multi-label"}
    yield "several labels, far out", [-900, 900, 0], {}, {"task": "multi-label"}
    yield "a segmentation that shows a class", [-2, 2.5, 1], {}, {"task": "segmentation"}
    yield "a segmentation that shows none", [3, -2, -3], {}, {"task": "segmentation"}
    yield "like the training images", [0, 3, 0], {"ood": GATE}, {"embedding": [1.5, -0.5]}
    yield "unlike them", [0, 3, 0], {"ood": GATE}, {"embedding": [4, 1]}
    yield "just like them", [0, 3, 0], {"ood": GATE}, {"embedding": [1, -1]}
    near, usual, turned = [1.5, -0.5], [1.2, 0.8, -1.1, -0.9], [-1, -1, 1, 1]
    yield "usual layout", [0, 3, 0], {"ood": LAYOUT_GATE}, {"embedding": near, "layout": usual}
    yield "upside down", [0, 3, 0], {"ood": LAYOUT_GATE}, {"embedding": near, "layout": turned}
    yield "usual layout, unlike", [0, 3, 0], {"ood": LAYOUT_GATE}, {"embedding": [4, 1], "layout": usual}
    yield "usual layout, no embedding", [0, 3, 0], {"ood": LAYOUT_GATE}, {"layout": usual}
    yield "upside down, no embedding", [0, 3, 0], {"ood": LAYOUT_GATE}, {"layout": turned}
    good = {"side": 100, "brightness": 100, "contrast": 40, "sharpness": 1, "colour": 0}
    yield "a good picture", [0, 3, 0], {}, {"measures": good}
    for key, value in [("side", 10), ("contrast", 0.2), ("contrast", 5), ("contrast", 91), ("colour", 41)]:
        yield f"{key} {value}", [0, 3, 0], {}, {"measures": {**good, key: value}}
    for key, value in [("brightness", 19.9), ("brightness", 201), ("sharpness", 0.01), ("sharpness", 13)]:
        yield f"{key} {value}", [0, 3, 0], {}, {"measures": {**good, key: value}}
    worst = {"side": 3, "brightness": 0, "contrast": 3, "sharpness": 50, "colour": 200}
    every = {"ood": GATE, "abstain_below": 0.9}
    yield "everything at once", [0, 0, 0], every, {"measures": worst, "embedding": [9, 9]}


def layout_vectors() -> Iterator[dict[str, Any]]:
    for name, pixels in _pictures():
        for side in (2, 6):
            found = layout(pixels, side)
            yield {"name": name, "side": side, "model_image": _pack(pixels), "layout": found.tolist()}


def region_vectors() -> Iterator[dict[str, Any]]:
    small = Resize(height=8, width=8)
    cases: list[tuple[list[Step], int, int]] = [
        ([small], 40, 30),
        ([Pad(), small], 41, 30),
        ([Crop(top=100, left=50, right=333), small], 101, 77),
        ([Crop(bottom=250), Pad(), Resize(height=16, width=16), Crop(top=125), small], 64, 200),
    ]
    for steps, height, width in cases:
        region = seen_region(steps, height, width)
        said = {"top": region.top, "left": region.left, "height": region.height, "width": region.width}
        dumped = [step.model_dump() for step in steps]
        yield {"steps": dumped, "height": height, "width": width, "region": said}


def id_vectors() -> Iterator[dict[str, Any]]:
    secret = bytes(range(32))
    identity = Identity(secret)
    for frame, study in [("sha256:00#0", "sha256:00#0"), ("sop:1.2.3#7", "1.2.3.4"), ("ä字#0", "")]:
        yield {
            "secret": secret.hex(),
            "bundle": {"name": "chest", "version": "1.2.3"},
            "frame": frame,
            "study": study,
            "id": identity.finding("chest", "1.2.3", frame),
            "study_id": identity.study(study),
            "case_code": identity.case_code(study),
        }


def coverage_vectors() -> Iterator[dict[str, Any]]:
    chest = {"statement": "x", "modality": ["CR", "DX"], "body_part": ["CHEST"], "min_age_years": 18}
    headers: list[dict[str, Any]] = [
        {},
        {"modality": "DX", "body_part": "CHEST", "age_years": 18.0},
        {"modality": "US"},
        {"modality": "CR", "body_part": "chest"},
        {"modality": "CR", "body_part": "HAND"},
        {"age_years": 17.9},
        {"view": "PA"},
    ]
    for use in (chest, {"statement": "x"}, {"statement": "x", "max_age_years": 2, "view": ["AP"]}):
        for header in headers:
            stated = IntendedUse.model_validate_json(json.dumps(use))
            yield {
                "intended_use": stated.model_dump(mode="json"),
                "header": header,
                "covered": covers(stated, Header(**header)),
            }


def text() -> str:
    """The file's text: a vector a line."""
    parts = {
        "quality": quality_vectors(),
        "decisions": decision_vectors(),
        "layouts": layout_vectors(),
        "regions": region_vectors(),
        "ids": id_vectors(),
        "coverage": coverage_vectors(),
    }
    blocks = []
    for name, vectors in parts.items():
        lines = ",\n".join(json.dumps(vector, separators=(",", ":")) for vector in vectors)
        blocks.append(f'"{name}":[\n{lines}\n]')
    return '{"schema_version":1,\n' + ",\n".join(blocks) + "}\n"


if __name__ == "__main__":
    VECTORS.write_text(text(), encoding="utf-8")
