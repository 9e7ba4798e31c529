"""The variants of a trained network, float, pruned and int8, judged through the device's own interpreter."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Manifest, VariantMetrics
from edge.bundle.steps import Grayscale, Resize, Rgb
from edge.imaging.frame import Frame
from edge.inference.decision import decide, probabilities
from edge.inference.ood import OodModel
from edge.inference.prediction import Prediction
from edge.inference.predictor import Predictor
from trainer.evaluation.decisions import fit_temperature
from trainer.evaluation.metrics import summarize, variant_metrics
from trainer.preparation import Part

__all__ = ["Operating", "Variant", "judge", "operate", "run_model", "tuning_figures"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Variant:
    """One exported file and its held-out results, calibrated by its own ``temperature``.

    ``summary`` has the keys of ``evaluate --json``; ``probabilities`` is ``[n, K]``.
    """

    file: str
    model: bytes
    temperature: float
    probabilities: Floats
    predictions: list[Prediction]
    metrics: VariantMetrics
    summary: dict[str, Any]

    @property
    def gzip_bytes(self) -> int:
        """Size of the file compressed, as a bundle holds it."""
        return len(gzip.compress(self.model, 9, mtime=0))


@dataclass(frozen=True)
class Operating:
    """Decisions on held-out images at the operating thresholds, with every gate in force.

    ``sensitivity`` and ``specificity`` count images with a result only; None where nothing says which images
    are negative, or there are none.
    """

    n: int
    sensitivity: float | None
    specificity: float | None
    no_result: int
    reasons: dict[str, int] = field(default_factory=dict)


def run_model(model: bytes, manifest: Manifest, part: Part) -> list[Prediction]:
    """A Prediction of each image of a part, whose steps have run already, by the device's Predictor."""
    size = Resize(height=manifest.input.height, width=manifest.input.width)
    nothing_left_to_do = (Grayscale() if manifest.input.channels == 1 else Rgb(), size)
    predictor = Predictor.from_model(model, manifest.model_copy(update={"steps": nothing_left_to_do}))
    return [
        predictor.predict(Frame(pixels=pixels, identity="", study="", source="training"))
        for pixels in part.loaded.pixels
    ]


def tuning_figures(model: bytes, manifest: Manifest, tune: Part) -> tuple[float | None, float | None]:
    """AUROC and accuracy of a model on the tuning part, None where undefined."""
    scores = probabilities(np.stack([p.logits for p in run_model(model, manifest, tune)]), manifest)
    figures = summarize(scores, tune.truth, manifest.labels, manifest.task, manifest.decision.negative_label)
    return figures["auroc"], figures["accuracy"]


def judge(
    file: str, model: bytes, manifest: Manifest, tune: Part, held_out: Part, seed: int
) -> tuple[Variant, list[Prediction]]:
    """Calibrate a model on the tuning part and measure it on the held-out one.

    Returns the variant, and the predictions of the tuning part.
    """
    tuning = run_model(model, manifest, tune)
    logits = np.stack([prediction.logits for prediction in tuning])
    temperature = fit_temperature(logits, tune.targets, manifest.task)
    calibrated = manifest.model_copy(
        update={"decision": manifest.decision.model_copy(update={"temperature": temperature})}
    )
    predictions = run_model(model, manifest, held_out)
    scores = probabilities(np.stack([prediction.logits for prediction in predictions]), calibrated)
    negative = manifest.decision.negative_label
    metrics = variant_metrics(
        scores,
        held_out.truth,
        manifest.labels,
        split=held_out.name,
        model_bytes=len(model),
        task=manifest.task,
        negative_label=negative,
        seed=seed,
    )
    summary = summarize(scores, held_out.truth, manifest.labels, manifest.task, negative)
    return Variant(file, model, temperature, scores, predictions, metrics, summary), tuning


def operate(
    predictions: Sequence[Prediction], manifest: Manifest, ood: OodModel, held_out: Part
) -> Operating:
    """Decide on held-out predictions as a cart would, image quality included."""
    outcomes = [
        decide(replace(prediction, quality=measures), manifest, ood)
        for prediction, measures in zip(predictions, held_out.loaded.measures, strict=True)
    ]
    decided = np.array([outcome.decision != "no_result" for outcome in outcomes])
    positive = np.array([outcome.decision == "positive" for outcome in outcomes])
    sensitivity = specificity = None
    negative = manifest.decision.negative_label
    if negative is not None or manifest.task == "multi-label":
        columns = [index for index, label in enumerate(manifest.labels) if label != negative]
        known = held_out.targets[:, columns].any(axis=1)
        sensitivity = _share(positive[decided & known])
        specificity = _share(~positive[decided & ~known])
    reasons = Counter(reason.value for outcome in outcomes for reason in outcome.reasons)
    return Operating(len(outcomes), sensitivity, specificity, int((~decided).sum()), dict(reasons))


def _share(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if len(flags) else None
