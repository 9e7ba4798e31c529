"""Out of distribution: how far an image's embedding and layout lie from those of the training images."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.arrays import pack, unpack
from edge.bundle.errors import BundleError
from edge.bundle.steps import Grayscale, Resize
from edge.imaging.frame import Pixels
from edge.imaging.steps import apply_steps

__all__ = ["LAYOUT_SIDE", "OodModel", "fit", "layout", "with_layout"]

Floats = NDArray[np.float32]

MOST_DIRECTIONS = 256
"""Directions kept of a longer embedding: more would cost a cart more than its network does."""


LAYOUT_SIDE = 6
"""Cells along each side of the layout: enough to know upside down, few enough to learn from some hundred
images."""

_FOLDS = 5


@dataclass(frozen=True)
class OodModel:
    """Mahalanobis distance (Lee et al. 2018, arXiv:1807.03888), with one Gaussian for all classes together.

    ``mean`` float32 ``[D]``, ``whitening`` float32 ``[D, k]`` of the embedding; ``layout_mean`` ``[L]`` and
    ``layout_whitening`` ``[L, m]`` of the :func:`layout`, ``L`` the square of its side. Either pair may be
    empty (``D`` or ``L`` 0). Above ``limit`` is out of distribution.
    """

    mean: Floats
    whitening: Floats
    limit: float
    layout_mean: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    layout_whitening: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    @property
    def layout_side(self) -> int:
        """Cells along each side of the layout; 0 where it is not judged."""
        return math.isqrt(len(self.layout_mean))

    def score(self, embedding: NDArray[Any] | None, layout: NDArray[Any] | None = None) -> float:
        """The larger of the distances ``||(x - mean) @ whitening||`` of embedding ``[D]`` and layout ``[L]``.

        The layout's whitening is scaled so that the limit is the same for both.

        Raises:
            ValueError: one that the model judges is missing.
        """
        if (embedding is None and len(self.mean)) or (layout is None and len(self.layout_mean)):
            raise ValueError("the gate needs an embedding or a layout that is missing")
        scores = []
        if embedding is not None and len(self.mean):
            scores.append(_distance(embedding, self.mean, self.whitening))
        if layout is not None and len(self.layout_mean):
            scores.append(_distance(layout, self.layout_mean, self.layout_whitening))
        return float(np.max(scores))  # unlike max(), a score that is no number stays one

    def to_npz(self) -> bytes:
        """The bytes of ``ood.npz``."""
        arrays = {"mean": self.mean, "whitening": self.whitening, "limit": np.array(self.limit)}
        if len(self.layout_mean):
            arrays |= {"layout_mean": self.layout_mean, "layout_whitening": self.layout_whitening}
        return pack(arrays)

    @classmethod
    def from_npz(cls, data: bytes, origin: str = "ood.npz") -> OodModel:
        """Read ``ood.npz``.

        Raises:
            BundleError: it does not hold such a model; the message starts with ``origin``.
        """
        arrays = unpack(data, origin)
        try:
            limit = arrays.pop("limit").item()
            model = cls(**{**arrays, "limit": limit})
        except (KeyError, ValueError, TypeError) as error:
            raise BundleError(f"{origin}: needs mean, whitening and limit") from error
        pairs = [(model.mean, model.whitening), (model.layout_mean, model.layout_whitening)]
        if not all(_is_gaussian(*pair) for pair in pairs) or not any(len(mean) for mean, _ in pairs):
            raise BundleError(f"{origin}: needs finite float32 mean [D] and whitening [D, k]")
        if model.layout_side**2 != len(model.layout_mean):
            raise BundleError(f"{origin}: the layout is no square")
        if not isinstance(limit, float) or not 0 < limit < np.inf:
            raise BundleError(f"{origin}: the limit is not a positive number")
        return model


def layout(model_pixels: Pixels, side: int = LAYOUT_SIDE) -> Floats:
    """How light and dark lie in an image: its gray ``side x side`` area means, less their mean, over their
    standard deviation (zeros where that is 0).

    A network's averaged features hardly change when a chest stands upside down; this does.

    Args:
        model_pixels: uint8 ``[H, W]`` or ``[H, W, 3]``, after the manifest's steps.
        side: cells along each side.

    Returns:
        float32 ``[side * side]``, row by row.
    """
    small = apply_steps(model_pixels, [Grayscale(), Resize(height=side, width=side)])
    cells = small.reshape(-1).astype(np.float64)
    cells -= cells.mean()
    return np.asarray(cells / (cells.std() or 1.0), np.float32)


def fit(train: NDArray[Any], tuning: NDArray[Any], rejection: float) -> OodModel:
    """Fit the embedding's mean and whitening on training images and the limit on others, all seen through the
    int8 model: a network's features of what it learned from are nearer than those of new images.

    Args:
        train: embeddings ``[n, D]``, n at least 2.
        tuning: embeddings ``[m, D]`` of held-out images from the same distribution, m at least 1.
        rejection: share of ``tuning`` that may score above the limit, 0 to below 1.

    Raises:
        ValueError: too few embeddings, or embeddings that do not vary.
    """
    train, tuning = np.asarray(train, np.float64), np.asarray(tuning, np.float64)
    if len(train) < 2 or len(tuning) < 1 or train.shape[1] != tuning.shape[1]:
        raise ValueError("need at least two training embeddings and one tuning embedding of the same length")
    mean, whitening = _gaussian(train)
    return OodModel(mean, whitening, _limit([_distance(one, mean, whitening) for one in tuning], rejection))


def with_layout(
    model: OodModel | None, layouts: NDArray[Any], groups: Sequence[Hashable], rejection: float
) -> OodModel:
    """The model with the layout's distance added, scaled to the model's limit; None is one of layouts only.

    The layout knows no network, so its limit comes from all images there are, each measured by a Gaussian
    that no image of its group had a part in (five folds): some hundred images leave a steadier limit than the
    tuning images alone.

    Args:
        model: of the embedding, where there is one.
        layouts: of :func:`layout`, ``[n, L]``, n at least 2.
        groups: ``[n]``, what each image belongs to: its patient.
        rejection: share of the images that may score above the limit, 0 to below 1.

    Raises:
        ValueError: too few images, or images whose layouts do not vary.
    """
    layouts = np.asarray(layouts, np.float64)
    if len(layouts) < 2:
        raise ValueError("need at least two layouts")
    mean, whitening = _gaussian(layouts)
    limit = _limit(_cross_fitted(layouts, groups), rejection)
    if model is None:
        return OodModel(np.zeros(0, np.float32), np.zeros((0, 0), np.float32), limit, mean, whitening)
    return replace(model, layout_mean=mean, layout_whitening=whitening * np.float32(model.limit / limit))


def _cross_fitted(layouts: NDArray[np.float64], groups: Sequence[Hashable]) -> list[float]:
    # Groups take turns in the order they come: the same images give the same folds.
    turn = {group: number % _FOLDS for number, group in enumerate(dict.fromkeys(groups))}
    fold = np.array([turn[group] for group in groups])
    scores: list[float] = []
    for number in range(len(set(turn.values()))):
        others = layouts[fold != number]
        mean, whitening = _gaussian(others if len(others) >= 2 else layouts)
        scores += [_distance(one, mean, whitening) for one in layouts[fold == number]]
    return scores


def _limit(scores: Sequence[float], share: float) -> float:
    # "higher": no more than the asked share lies above, also with few images.
    quantile = float(np.quantile(scores, 1 - share, method="higher"))
    return max(quantile, float(np.finfo(np.float32).tiny))


def _distance(found: NDArray[Any], mean: Floats, whitening: Floats) -> float:
    return float(np.linalg.norm((found - mean) @ whitening))


def _is_gaussian(mean: Floats, whitening: Floats) -> bool:
    floats = all(array.dtype == np.float32 and np.isfinite(array).all() for array in (mean, whitening))
    return floats and mean.ndim == 1 and whitening.ndim == 2 and len(mean) == len(whitening)


def _gaussian(samples: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Mean ``[D]`` and whitening ``[D, k]`` of ``samples[n, D]``.

    The covariance is shrunk towards a multiple of the identity by the share that Ledoit and Wolf (2004,
    doi:10.1016/S0047-259X(03)00096-4) derive; directions in which the samples hardly vary are dropped, as
    quantization noise would dominate them.
    """
    mean = samples.mean(axis=0)
    variances, directions = np.linalg.eigh(_shrunk_covariance(samples - mean))
    # Ascending: the last are the widest.
    variances, directions = variances[-MOST_DIRECTIONS:], directions[:, -MOST_DIRECTIONS:]
    kept = variances > variances[-1] * 1e-6
    if variances[-1] <= 0:
        raise ValueError("the training embeddings do not vary")
    whitening = directions[:, kept] / np.sqrt(variances[kept])
    return mean.astype(np.float32), whitening.astype(np.float32)


def _shrunk_covariance(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    n, dimensions = centred.shape
    covariance = centred.T @ centred / n
    target = np.trace(covariance) / dimensions * np.eye(dimensions)
    distance = float(np.sum((covariance - target) ** 2))
    if distance == 0:
        return np.asarray(target)
    squared = centred**2
    spread = float(np.sum(squared.T @ squared) / n - np.sum(covariance**2)) / n
    share = min(max(spread / distance, 0.0), 1.0)
    result: NDArray[np.float64] = (1 - share) * covariance + share * target
    return result
