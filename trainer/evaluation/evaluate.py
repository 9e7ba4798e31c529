"""How good a bundle is on labelled images, through the device's own path, without TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.archive import Bundle
from edge.bundle.manifest import Manifest
from edge.errors import BadInputError
from edge.imaging.fingerprint import decode_hashes, pixel_hash
from edge.imaging.frame import Frame
from edge.inference.decision import decide, probabilities
from edge.inference.engine import EngineError
from edge.inference.predictor import Predictor
from trainer.data.dataset import Dataset
from trainer.data.folders import SPLITS
from trainer.data.sample import Sample
from trainer.evaluation.masks import MaskCounts
from trainer.evaluation.metrics import summarize

__all__ = ["check_task", "evaluate"]


def evaluate(
    bundle: Bundle,
    dataset: Dataset,
    split: str,
    advance: Callable[[], object] = lambda: None,
    *,
    onnx: bool = False,
) -> dict[str, Any]:
    """Score every readable image of a split.

    Args:
        bundle: the opened bundle.
        dataset: read with the bundle's labels.
        split: "train", "val", "test" or "all".
        advance: called after each image.
        onnx: score ``model.onnx`` on the best provider that is here, not what this machine would run.

    Returns:
        The keys of ``evaluate --json``: those of :func:`trainer.evaluation.metrics.summarize`,
        ``unreadable``, ``overlap`` (None where the bundle names no training images), ``abstained``,
        ``model_bytes``, ``bundle_bytes``, ``bundle_sha256``; for a segmentation ``dice`` and
        ``iou`` in place of a classification's figures.

    Raises:
        BadInputError: the data is of another kind than the model, has no such split, or none of its images
            can be read.
        EngineError: the interpreter failed, or ``model.onnx`` cannot be run as it should.
    """
    manifest = bundle.manifest
    check_task(dataset, manifest)
    samples = dataset.split(split)
    predictor = Predictor(bundle, interpreter="onnxruntime" if onnx else "auto")
    if onnx and predictor.not_accelerated:
        raise EngineError(f"{bundle.path}: {predictor.not_accelerated}")
    fingerprint = manifest.provenance.training_data
    trained_on = decode_hashes(fingerprint) if fingerprint else set()
    masks = MaskCounts(manifest) if manifest.task == "segmentation" else None
    unread = sum(_belongs(path, dataset.origin, split) for path, _ in dataset.unreadable)
    scored: list[Sample] = []
    logits: list[NDArray[np.float32]] = []
    abstained = overlap = 0
    for sample, pixels in dataset.read(samples):
        try:
            prediction = predictor.predict(Frame(pixels, sample.name, sample.name, "evaluate"))
            if masks and prediction.mask is not None:
                masks.add(prediction.mask, sample.load_mask())
        except BadInputError as error:
            dataset.unreadable.append((sample.path or dataset.origin, str(error)))
            continue
        finally:
            advance()
        scored.append(sample)
        logits.append(prediction.logits)
        abstained += decide(prediction, manifest, predictor.ood).decision == "no_result"
        overlap += pixel_hash(pixels) in trained_on
    if not scored:
        why = f"; first: {dataset.unreadable[0][1]}" if dataset.unreadable else ""
        raise BadInputError(f"{dataset.origin}: none of {len(samples)} images can be read{why}")
    figures: dict[str, Any] = {"n": len(scored)}
    if masks:
        figures |= masks.summary()
    else:
        truth = _truth(dataset, scored, manifest)
        scores = probabilities(np.stack(logits), manifest)
        negative = manifest.decision.negative_label
        figures |= summarize(scores, truth, manifest.labels, manifest.task, negative)
    return figures | {
        "unreadable": unread + len(samples) - len(scored),
        "overlap": overlap if fingerprint else None,
        "abstained": abstained,
        "model_bytes": len(bundle.member("model.tflite")),
        "bundle_bytes": bundle.size,
        "bundle_sha256": bundle.sha256,
    }


def check_task(dataset: Dataset, manifest: Manifest) -> None:
    """Check that the data can judge the model: single-label data also judges a multi-label model.

    Raises:
        BadInputError: it cannot.
    """
    fits = {"multi-label": ("multi-label", "single-label")}.get(manifest.task, (manifest.task,))
    if dataset.task not in fits:
        raise BadInputError(
            f"{dataset.origin}: is {dataset.task} data, the bundle's model is {manifest.task}"
        )


def _truth(dataset: Dataset, samples: list[Sample], manifest: Manifest) -> NDArray[np.int64]:
    truth = dataset.truth(samples)
    if manifest.task == "multi-label" and truth.ndim == 1:
        return np.eye(len(manifest.labels), dtype=np.int64)[truth]
    return truth


def _belongs(path: Path, origin: Path, split: str) -> bool:
    """Whether a file that is no image at all, and so in no split, lies in the folder of another split."""
    folder = path.relative_to(origin).parts[0] if path.is_relative_to(origin) and path != origin else ""
    return split == "all" or SPLITS.get(folder.lower(), split) == split
