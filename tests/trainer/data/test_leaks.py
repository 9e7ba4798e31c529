"""Images that stand in two parts of the data."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge.imaging.fingerprint import pixel_hash
from trainer.data.dataset import Loaded
from trainer.data.leaks import find_leaks
from trainer.data.phantoms.generate import generate
from trainer.data.sample import Sample


def loaded(images: list[np.ndarray], name: str) -> Loaded:
    small = np.stack([cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA) for image in images])
    samples = [Sample(f"{name}{index}", ("x",), path=Path(name)) for index in range(len(images))]
    return Loaded(small, samples, [pixel_hash(image) for image in images], [{} for _ in images])


def test_other_people_are_no_copies_and_copies_are_found_in_other_sizes_and_compressions() -> None:
    people = list(generate("chest", 60, seed=1, size=128).images)
    assert find_leaks({"train": loaded(people[:40], "a"), "val": loaded(people[40:], "b")}).near == 0
    smaller = cv2.resize(people[3], (96, 96), interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", people[7], [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    brighter = np.clip(people[9].astype(int) + 12, 0, 255).astype(np.uint8)
    copies = [people[5], smaller, cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), brighter, people[50]]
    leaks = find_leaks({"train": loaded(people[:40], "a"), "val": loaded(copies, "b")})
    assert (leaks.count, leaks.examples) == (1, ("val: b0 = train: a5",))
    assert leaks.near_examples == ("val: b1 = train: a3", "val: b2 = train: a7", "val: b3 = train: a9")


def test_blank_images_are_like_no_other() -> None:
    blank = [np.full((64, 64), level, np.uint8) for level in (3, 80, 200)]
    assert find_leaks({"train": loaded(blank[:1], "a"), "val": loaded(blank[1:], "b")}).near == 0
