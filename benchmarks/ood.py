"""What a bundle refuses: images of its kind, the same turned, photos, pages of text, noise; as JSON.

For each kind: ``n`` images, the share ``refused`` (no result), the share that the ``out_of_distribution``
gate refuses by itself, and how often each reason was given. Of its own kind are the images of DATA's held-out
split; ``--other`` adds folders of images of another modality. The photos are crops of the two that
scikit-learn ships.
Needs the trainer extra. Run from the project's folder:
python benchmarks/ood.py BUNDLE --data DATA [--split S] [--other DATA ...]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.bundle.archive import open_bundle
from edge.bundle.reasons import Reason
from edge.imaging.frame import Frame, Pixels
from edge.inference.decision import decide
from edge.inference.predictor import Predictor
from trainer.data.dataset import load_dataset
from trainer.data.phantoms.generate import generate

MOST = 200
COUNT = 40
LETTER, LINE = 12, 26  # pixels


def photos(colour: bool) -> Iterator[Pixels]:
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    pictures = load_sample_images().images
    for number in range(COUNT):
        picture = pictures[number % len(pictures)]
        height, width = picture.shape[:2]
        side = int(random.integers(200, height))
        top, left = int(random.integers(0, height - side + 1)), int(random.integers(0, width - side + 1))
        crop = np.ascontiguousarray(picture[top : top + side, left : left + side])
        yield crop if colour else np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8)


def pages() -> Iterator[Pixels]:
    """White pages with lines of dark letters."""
    random = np.random.default_rng(1)
    for _ in range(COUNT):
        page = np.full((1100, 850), random.integers(235, 256), np.uint8)
        for y in range(60, 1040, LINE):
            words = ["".join(map(chr, random.integers(97, 123, size))) for size in random.integers(2, 9, 8)]
            line = " ".join(words)[: int(random.integers(10, 60))]
            cv2.putText(page, line, (60, y), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 20, 1, cv2.LINE_AA)
        yield page


def noise() -> Iterator[Pixels]:
    random = np.random.default_rng(2)
    for number in range(COUNT):
        spread = random.uniform(10, 60)
        gray = random.normal(128, spread, (256, 256)) if number % 2 else random.uniform(0, 256, (256, 256))
        yield np.clip(gray, 0, 255).astype(np.uint8)


def read(data: Path, labels: Sequence[str] | None, split: str | None) -> list[Pixels]:
    dataset = load_dataset(data, labels)
    samples = dataset.split(split or dataset.default_split)
    return [pixels for _, pixels in dataset.read(samples[:: -(-len(samples) // MOST)])]


def refusals(predictor: Predictor, images: Sequence[Pixels]) -> dict[str, Any]:
    reasons: Counter[str] = Counter()
    refused = 0
    for pixels in images:
        prediction = predictor.predict(Frame(pixels, "", "", "benchmark"))
        outcome = decide(prediction, predictor.manifest, predictor.ood)
        refused += outcome.decision == "no_result"
        reasons.update(reason.value for reason in outcome.reasons)
    gate = reasons[Reason.OUT_OF_DISTRIBUTION.value]
    shares = {"refused": round(refused / len(images), 4), "ood": round(gate / len(images), 4)}
    return {"n": len(images), **shares, "reasons": dict(reasons)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split")
    parser.add_argument("--other", type=Path, action="append", default=[])
    given = parser.parse_args()
    bundle = open_bundle(given.bundle)
    own = read(given.data, bundle.manifest.labels, given.split)
    kinds: dict[str, list[Pixels]] = {
        "own": own,
        "upside_down": [np.ascontiguousarray(pixels[::-1, ::-1]) for pixels in own],
        "on_its_side": [np.ascontiguousarray(np.rot90(pixels)) for pixels in own],
        "inverted": [~pixels for pixels in own],
        "photo_gray": list(photos(colour=False)),
        "photo_colour": list(photos(colour=True)),
        "page_of_text": list(pages()),
        "noise": list(noise()),
        "chest_phantom": list(generate("chest", COUNT, seed=5).images),
        "ultrasound_phantom": list(generate("ultrasound", COUNT, seed=5).images),
    }
    kinds |= {data.stem: read(data, None, None) for data in given.other}
    predictor = Predictor(bundle)
    print(json.dumps({kind: refusals(predictor, images) for kind, images in kinds.items()}, indent=2))
