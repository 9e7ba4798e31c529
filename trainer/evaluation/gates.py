"""What refuses images unlike those learned from, fitted on images that are not held out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Manifest
from edge.errors import ScanwrightError
from edge.inference import ood
from edge.inference.prediction import Prediction
from trainer.evaluation.variants import run_model
from trainer.preparation import Part

__all__ = ["fit_gate"]

MOST_IMAGES = 2000
"""Training images whose embeddings are fitted on; more of them change little."""

LONGEST = 2048
"""Numbers in an embedding that a Gaussian is fitted to; of longer ones there are never images enough."""


def fit_gate(
    model: bytes, draft: Manifest, train: Part, tune: Part, tuning: Sequence[Prediction], rejection: float
) -> ood.OodModel:
    """The out-of-distribution model of an int8 file: of its embedding, where it gives one that varies with
    the image and is not longer than :data:`LONGEST`, and of the images' layout.

    Args:
        model: the int8 file.
        draft: its manifest.
        train: images that were learned from.
        tune: others, that are not held out.
        tuning: what the model said of ``tune``.
        rejection: share of images like these that may be refused; each of the two distances has half of it.

    Raises:
        ScanwrightError: every image has the same embedding.
    """
    pixels = [*train.loaded.pixels, *tune.loaded.pixels]
    groups = [sample.group for sample in (*train.loaded.samples, *tune.loaded.samples)]
    layouts = np.stack([ood.layout(image) for image in pixels])
    sizes = [output.shape[1] for output in draft.outputs if output.name == "embedding"]
    if not sizes or sizes[0] > LONGEST:
        return ood.with_layout(None, layouts, groups, rejection)
    seen = train.every(-(-len(train.pixels) // MOST_IMAGES))
    try:
        embedding = ood.fit(_embeddings(run_model(model, draft, seen)), _embeddings(tuning), rejection / 2)
    except ValueError as error:
        raise ScanwrightError(
            f"the network gives every image the same embedding ({error}): it learned nothing; train for "
            "longer, with a smaller learning rate or on more images"
        ) from error
    return ood.with_layout(embedding, layouts, groups, rejection / 2)


def _embeddings(predictions: Iterable[Prediction]) -> NDArray[Any]:
    return np.stack([prediction.embedding for prediction in predictions if prediction.embedding is not None])
