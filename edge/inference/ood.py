"""Out of distribution: how far an image's embedding lies from those of the training images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.arrays import pack, unpack
from edge.bundle.errors import BundleError

__all__ = ["OodModel", "fit"]

Floats = NDArray[np.float32]

MOST_DIRECTIONS = 256
"""Directions kept of a longer embedding: more would cost a cart more than its network does."""


@dataclass(frozen=True)
class OodModel:
    """Mahalanobis distance (Lee et al. 2018, arXiv:1807.03888), with one Gaussian for all classes together.

    ``mean`` float32 ``[D]``, ``whitening`` float32 ``[D, k]``; above ``limit`` is out of distribution.
    """

    mean: Floats
    whitening: Floats
    limit: float

    def score(self, embedding: NDArray[Any]) -> float:
        """``||(embedding - mean) @ whitening||`` of an embedding ``[D]``; about ``sqrt(k)`` is usual."""
        return float(np.linalg.norm((embedding - self.mean) @ self.whitening))

    def to_npz(self) -> bytes:
        """The bytes of ``ood.npz``."""
        return pack({"mean": self.mean, "whitening": self.whitening, "limit": np.array(self.limit)})

    @classmethod
    def from_npz(cls, data: bytes, origin: str = "ood.npz") -> OodModel:
        """Read ``ood.npz``.

        Raises:
            BundleError: it does not hold such a model; the message starts with ``origin``.
        """
        arrays = unpack(data, origin)
        try:
            mean, whitening, limit = arrays["mean"], arrays["whitening"], arrays["limit"].item()
        except (KeyError, ValueError) as error:
            raise BundleError(f"{origin}: needs mean, whitening and limit") from error
        floats = all(array.dtype == np.float32 and np.isfinite(array).all() for array in (mean, whitening))
        if not floats or mean.ndim != 1 or whitening.ndim != 2 or len(mean) != len(whitening):
            raise BundleError(f"{origin}: needs finite float32 mean [D] and whitening [D, k]")
        if not isinstance(limit, float) or not 0 < limit < np.inf:
            raise BundleError(f"{origin}: the limit is not a positive number")
        return cls(mean, whitening, limit)


def fit(train: NDArray[Any], tuning: NDArray[Any], rejection: float) -> OodModel:
    """Fit mean and whitening on training images and the limit on others, all seen through the int8 model.

    The covariance is shrunk towards a multiple of the identity by the share that Ledoit and Wolf (2004,
    doi:10.1016/S0047-259X(03)00096-4) derive; directions in which the training images hardly vary are
    dropped, as quantization noise would dominate them.

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
    mean = train.mean(axis=0)
    variances, directions = np.linalg.eigh(_shrunk_covariance(train - mean))
    # Ascending: the last are the widest.
    variances, directions = variances[-MOST_DIRECTIONS:], directions[:, -MOST_DIRECTIONS:]
    kept = variances > variances[-1] * 1e-6
    if variances[-1] <= 0:
        raise ValueError("the training embeddings do not vary")
    whitening = (directions[:, kept] / np.sqrt(variances[kept])).astype(np.float32)
    model = OodModel(mean.astype(np.float32), whitening, np.inf)
    scores = np.array([model.score(embedding) for embedding in tuning])
    # "higher": no more than the asked share lies above, also with few tuning images.
    limit = max(float(np.quantile(scores, 1 - rejection, method="higher")), float(np.finfo(np.float32).tiny))
    return OodModel(model.mean, model.whitening, limit)


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
