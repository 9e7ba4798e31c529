from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

FOREIGN = Path(__file__).parents[2] / "data" / "foreign"


def gray(level: float, seed: int) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).normal(level, 20, (32, 32)), 0, 255).astype(np.uint8)


@pytest.fixture
def foreign() -> Path:
    """The folder of the tiny network in every form: it tells bright pictures from dark ones."""
    return FOREIGN


@pytest.fixture
def images() -> np.ndarray:
    """Float32 ``[8, 32, 32, 1]`` as the tiny network takes them."""
    pictures = np.stack([gray(level, number) for number, level in enumerate(np.linspace(20, 230, 8))])
    return (pictures[..., np.newaxis] / 128 - 1).astype(np.float32)


@pytest.fixture
def data(tmp_path) -> Path:
    """Sixty pictures each of the labels dark and bright, which overlap a little."""
    random = np.random.default_rng(0)
    for label, low, high in (("dark", 20, 130), ("bright", 120, 230)):
        folder = tmp_path / "data" / label
        folder.mkdir(parents=True)
        for number in range(60):
            cv2.imwrite(str(folder / f"{number}.png"), gray(random.uniform(low, high), number))
    return tmp_path / "data"
