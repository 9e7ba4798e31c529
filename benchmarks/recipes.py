"""Every shipped recipe on its phantoms, as ``scanwright train --recipe NAME`` trains it; JSON, a line each.

For each recipe: the network, the int8 model's bytes, seconds of processor time, and on the held-out phantoms
the int8 model's AUROC with its 95 % interval, accuracy and, of masks, Dice. Runs are kept in RUNS, and one
that is there already is not trained again.
Needs the trainer extra. Run from the project's folder: python benchmarks/recipes.py RUNS [NAME ...]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from edge.cli import main as scanwright
from trainer.recipe import load_recipe, recipe_names


def trained(name: str, run: Path) -> float | None:
    """Seconds of processor time, or None where the run is there already."""
    if (run / "metrics.json").exists():
        return None
    began = time.process_time()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            scanwright(["train", "--recipe", name, "--out", str(run)])
    except SystemExit as end:
        if end.code:
            raise
    return round(time.process_time() - began, 1)


def figures(name: str, run: Path, seconds: float | None) -> dict[str, Any]:
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    int8 = metrics["variants"]["int8"]
    return {
        "recipe": name,
        "network": load_recipe(name).model.kind,
        "labels": metrics["labels"],
        "n": int8["n"],
        **{key: int8.get(key) for key in ("auroc", "accuracy", "dice")},
        "model_bytes": int8["file_bytes"],
        "cpu_s": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args()
    for name in given.names or recipe_names():
        run = given.runs / name
        seconds = trained(name, run)
        print(json.dumps(figures(name, run, seconds)), flush=True)


if __name__ == "__main__":
    main()
