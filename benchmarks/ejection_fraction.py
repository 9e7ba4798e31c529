"""How close a bundle's ejection fractions come to generated hearts' own; prints JSON.

Each heart is filmed once, 32 frames of 40 ms from a random moment of its cycle on, at the size of the
bundle's input, as the phantoms that it learned from were: larger ones, made smaller, have less speckle and
are withheld as blurred. They go through the bundle as on a cart. Limits of agreement: Bland and Altman
1986. Run from the project's folder:
python benchmarks/ejection_fraction.py BUNDLE [--hearts N] [--seed N]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np

from edge.bundle.archive import open_bundle
from edge.imaging.frame import Frame
from edge.inference.decision import decide
from edge.inference.predictor import Predictor
from edge.inference.ventricle import Cavity, Ejection, cavity, ejection
from trainer.data.phantoms import cardiac

SEED = 10_000
"""Far from the seeds that trainings are given."""


def main() -> None:
    """Film, outline, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--hearts", type=int, default=40)
    parser.add_argument("--seed", type=int, default=SEED)
    asked = parser.parse_args()
    predictor = Predictor(open_bundle(asked.bundle))
    label = predictor.manifest.ejection_fraction
    if label is None:
        parser.error(f"{asked.bundle}: names no ventricle to take the ejection fraction of")
    index = predictor.manifest.labels.index(label)
    truth, found, drawn = [], [], []
    refused: Counter[str] = Counter()
    for number, seeds in enumerate(np.random.SeedSequence(asked.seed).spawn(asked.hearts)):
        patient, exposure = seeds.spawn(2)
        heart = cardiac.clip(cardiac.LABELS[number % 2], patient, exposure, predictor.manifest.input.height)
        frames: list[Cavity | None] = []
        for pixels in heart.frames:
            prediction = predictor.predict(Frame(pixels, "", "", "benchmark"))
            withheld = decide(prediction, predictor.manifest, predictor.ood).decision == "no_result"
            assert prediction.mask is not None
            frames.append(None if withheld else cavity(prediction.mask.argmax(axis=-1) == index))
        result = ejection(frames)
        if isinstance(result, Ejection):
            truth.append(100 * heart.ejection_fraction)
            found.append(100 * result.fraction)
        else:
            refused[result.value] += 1
        by_hand = ejection([cavity(mask == 1) for mask in heart.masks])
        if isinstance(by_hand, Ejection):
            drawn.append(100 * (by_hand.fraction - heart.ejection_fraction))
    print(
        json.dumps(
            {
                "bundle": asked.bundle.name,
                "hearts": asked.hearts,
                "refused": dict(refused),
                **agreement(np.array(found) - np.array(truth)),
                "true_masks": agreement(np.array(drawn)),
            },
            indent=2,
        )
    )


def agreement(errors: np.ndarray) -> dict[str, float | int | list[float] | None]:
    """Mean absolute error, bias and limits of agreement, in percentage points of ejection fraction."""
    if len(errors) < 2:
        return {"n": len(errors), "mean_absolute_error": None, "bias": None, "limits_of_agreement": None}
    bias, spread = float(errors.mean()), 1.96 * float(errors.std(ddof=1))
    return {
        "n": len(errors),
        "mean_absolute_error": round(float(np.abs(errors).mean()), 2),
        "bias": round(bias, 2),
        "limits_of_agreement": [round(bias - spread, 2), round(bias + spread, 2)],
    }


if __name__ == "__main__":
    main()
