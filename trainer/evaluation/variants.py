"""The variants of a trained network, float, pruned and int8, judged through the device's own interpreter."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Manifest, VariantMetrics
from edge.bundle.steps import Grayscale, Resize, Rgb
from edge.imaging.frame import Frame
from edge.inference.decision import decide, probabilities
from edge.inference.ood import OodModel, layout
from edge.inference.prediction import Prediction
from edge.inference.predictor import Predictor
from trainer.evaluation.decisions import fit_temperature
from trainer.evaluation.masks import confusions, image_dice, overlap_intervals
from trainer.evaluation.metrics import summarize, variant_metrics
from trainer.evaluation.paired import Drops, dice_drops, score_drops
from trainer.preparation import Part

__all__ = ["Operating", "Variant", "drops_between", "judge", "operate", "run_model", "tuning_figures"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Variant:
    """One exported file and its held-out results, calibrated by its own ``temperature``.

    ``summary`` has the keys of ``evaluate --json``; ``probabilities`` is ``[n, K]``; ``masks`` of a
    segmentation are class indices ``[n, H, W]``, and ``predictions`` then have none; ``dice`` is
    :func:`trainer.evaluation.masks.image_dice` of them.
    """

    file: str
    model: bytes
    temperature: float
    probabilities: Floats
    predictions: list[Prediction]
    metrics: VariantMetrics
    summary: dict[str, Any]
    masks: NDArray[np.uint8] | None = None
    dice: Floats | None = None

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


def run_model(model: bytes, manifest: Manifest, part: Part) -> Iterator[Prediction]:
    """A Prediction of each image of a part, whose steps have run already, by the device's Predictor."""
    size = Resize(height=manifest.input.height, width=manifest.input.width)
    nothing_left_to_do = (Grayscale() if manifest.input.channels == 1 else Rgb(), size)
    predictor = Predictor.from_model(model, manifest.model_copy(update={"steps": nothing_left_to_do}))
    for pixels in part.loaded.pixels:
        prediction = predictor.predict(Frame(pixels=pixels, identity="", study="", source="training"))
        yield replace(prediction, layout=layout(pixels))


def tuning_figures(model: bytes, manifest: Manifest, tune: Part) -> dict[str, float | None]:
    """``auroc``, ``accuracy`` and ``dice`` of a model on the tuning part, None where undefined."""
    predictions, masks = _without_masks(run_model(model, manifest, tune))
    scores = probabilities(np.stack([prediction.logits for prediction in predictions]), manifest)
    figures = summarize(scores, tune.truth, manifest.labels, manifest.task, manifest.decision.negative_label)
    dice = None
    if masks is not None and tune.masks is not None:
        found = image_dice(confusions(masks, tune.masks, len(tune.labels)))
        dice = None if np.isnan(found).all() else float(np.nanmean(found))
    return {"auroc": figures["auroc"], "accuracy": figures["accuracy"], "dice": dice}


def drops_between(before: Variant, after: Variant, held_out: Part, manifest: Manifest, seed: int) -> Drops:
    """What one variant lost against another on the same held-out images."""
    if before.dice is not None and after.dice is not None:
        return dice_drops(before.dice, after.dice, manifest.labels[1:], seed)
    return score_drops(
        before.probabilities,
        after.probabilities,
        held_out.truth,
        manifest.labels,
        manifest.task,
        manifest.decision.negative_label,
        seed,
    )


def judge(
    file: str, model: bytes, manifest: Manifest, tune: Part, held_out: Part, seed: int
) -> tuple[Variant, list[Prediction]]:
    """Calibrate a model on the tuning part and measure it on the held-out one.

    Returns the variant, and the predictions of the tuning part.
    """
    tuning, _ = _without_masks(run_model(model, manifest, tune))
    logits = np.stack([prediction.logits for prediction in tuning])
    temperature = fit_temperature(logits, tune.targets, manifest.task)
    calibrated = manifest.model_copy(
        update={"decision": manifest.decision.model_copy(update={"temperature": temperature})}
    )
    predictions, masks = _without_masks(run_model(model, manifest, held_out))
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
    variant = Variant(file, model, temperature, scores, predictions, metrics, summary)
    return variant if masks is None else _with_masks(variant, masks, held_out, seed), tuning


def _without_masks(
    predictions: Iterator[Prediction],
) -> tuple[list[Prediction], NDArray[np.uint8] | None]:
    """The predictions, and their masks as class indices ``[n, H, W]``, which take less memory."""
    kept, masks = [], []
    for prediction in predictions:
        if prediction.mask is not None:
            masks.append(prediction.mask.argmax(axis=-1).astype(np.uint8))
        kept.append(replace(prediction, mask=None))
    return kept, np.stack(masks) if masks else None


def _with_masks(variant: Variant, masks: NDArray[np.uint8], held_out: Part, seed: int) -> Variant:
    assert held_out.masks is not None
    metrics = variant.metrics
    counts = confusions(masks, held_out.masks, len(held_out.labels))
    groups = [sample.group for sample in held_out.loaded.samples]
    dice, iou = overlap_intervals(counts, groups, held_out.labels, seed)
    per_class = {
        label: own.model_copy(update={"dice": dice.per_class[label], "iou": iou.per_class[label]})
        for label, own in metrics.per_class.items()
    }
    metrics = metrics.model_copy(update={"dice": dice.mean, "iou": iou.mean, "per_class": per_class})
    return replace(variant, metrics=metrics, masks=masks, dice=image_dice(counts))


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
    if negative is not None or manifest.task != "single-label":
        columns = [index for index, label in enumerate(manifest.labels) if label != negative]
        known = held_out.targets[:, columns].any(axis=1)
        sensitivity = _share(positive[decided & known])
        specificity = _share(~positive[decided & ~known])
    reasons = Counter(reason.value for outcome in outcomes for reason in outcome.reasons)
    return Operating(len(outcomes), sensitivity, specificity, int((~decided).sum()), dict(reasons))


def _share(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if len(flags) else None
