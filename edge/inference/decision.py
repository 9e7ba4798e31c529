"""From a Prediction to a decision: calibration, thresholds and the reasons to withhold a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Manifest
from edge.bundle.reasons import Reason
from edge.errors import BadInputError
from edge.imaging import quality
from edge.inference.ood import OodModel
from edge.inference.prediction import Prediction

__all__ = ["Outcome", "decide", "probabilities", "site_thresholds"]


@dataclass(frozen=True)
class Outcome:
    """What may be said of one image.

    With any reason the decision is ``no_result``, and label, probability and probabilities are empty: a
    number that is not to be trusted is not shown. ``ood_score`` and ``ood_limit`` stay, as evidence.
    """

    decision: Literal["positive", "negative", "no_result"]
    label: str | None
    probability: float | None
    probabilities: dict[str, float]
    thresholds: dict[str, float]
    reasons: tuple[Reason, ...]
    ood_score: float | None
    ood_limit: float | None


def probabilities(logits: NDArray[Any], manifest: Manifest) -> NDArray[np.float64]:
    """Calibrated probabilities of logits ``[..., C]``: softmax of logits / temperature, or sigmoid where
    several labels may hold at once, in multi-label and segmentation.

    Temperature scaling: Guo et al. 2017, arXiv:1706.04599.
    """
    scaled = np.asarray(logits, np.float64) / manifest.decision.temperature
    if manifest.task != "single-label":
        result: NDArray[np.float64] = 0.5 * (1 + np.tanh(scaled / 2))
        return result
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def site_thresholds(manifest: Manifest, moved: Mapping[str, float]) -> dict[str, float]:
    """The bundle's thresholds with those that a site has moved.

    Raises:
        BadInputError: a label has no threshold, or a value is outside what the bundle allows.
    """
    limits = manifest.decision.thresholds
    for label, value in moved.items():
        if label not in limits:
            raise BadInputError(
                f"thresholds.{label}: the bundle has no threshold for it; it has {list(limits)}"
            )
        if not limits[label].min <= value <= limits[label].max:
            raise BadInputError(
                f"thresholds.{label}: {value} is outside what the bundle allows, "
                f"{limits[label].min} to {limits[label].max}"
            )
    return {label: moved.get(label, limit.value) for label, limit in limits.items()}


def decide(
    prediction: Prediction,
    manifest: Manifest,
    ood: OodModel | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> Outcome:
    """Decide, or say why not: image quality first, then out of distribution, then uncertain.

    Args:
        prediction: of the bundle's model; where ``quality`` is empty, image quality is not judged.
        manifest: the bundle's.
        ood: the bundle's out-of-distribution model; needed where the manifest has a limit.
        thresholds: those a site has moved, by label (see :func:`site_thresholds`).

    Raises:
        BadInputError: a moved threshold is not allowed.
        ValueError: the manifest has an out-of-distribution limit, and ``ood``, the embedding or the layout is
            missing.
    """
    operating = site_thresholds(manifest, thresholds or {})
    values = probabilities(prediction.logits, manifest)
    gate = manifest.decision.ood
    score = None
    if gate:
        if ood is None:
            raise ValueError("the manifest has an out-of-distribution gate, which needs its model")
        score = ood.score(prediction.embedding, prediction.layout)

    reasons: list[Reason] = []
    if prediction.quality:
        reasons += quality.check(prediction.quality, manifest.quality)
    # "not <=": a score that is no number is out of distribution, too.
    if gate and score is not None and not score <= gate.limit:
        reasons.append(Reason.OUT_OF_DISTRIBUTION)
    if not values.max() >= manifest.decision.abstain_below:
        reasons.append(Reason.UNCERTAIN)
    limit = gate.limit if gate else None
    if reasons:
        return Outcome("no_result", None, None, {}, operating, tuple(reasons), score, limit)

    by_label = {label: float(value) for label, value in zip(manifest.labels, values, strict=True)}
    positive = [label for label, threshold in operating.items() if by_label[label] >= threshold]
    if positive:
        label = max(positive, key=lambda name: by_label[name] / max(operating[name], 1e-12))
        return Outcome("positive", label, by_label[label], by_label, operating, (), score, limit)
    negative = manifest.decision.negative_label
    probability = by_label[negative] if negative else None
    return Outcome("negative", negative, probability, by_label, operating, (), score, limit)
