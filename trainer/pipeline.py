"""The whole training: a float network, its pruned copy, int8, decisions, results and the report."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from edge.bundle.manifest import Manifest, Provenance
from trainer.budget import Budget, Found
from trainer.calibration import calibration_images
from trainer.compression.plan import Compressor
from trainer.compression.pruning import sparsity
from trainer.compression.quantization import describe, to_float, to_int8
from trainer.compression.search import search
from trainer.evaluation.costs import Costs
from trainer.evaluation.layers import layer_errors
from trainer.evaluation.variants import Variant, tuning_figures
from trainer.finishing import draft, finish, learned_from, to_json, tools
from trainer.learning import Lesson, learn
from trainer.preparation import Prepared
from trainer.progress import Reporter

__all__ = ["Result", "train"]


@dataclass(frozen=True)
class Result:
    """What a training made: the RUN's files by name, and the variants ("float", "pruned", "int8").

    ``tried`` has what a search within a budget tried, the one that was taken first.
    """

    files: dict[str, bytes]
    variants: dict[str, Variant]
    tried: tuple[Found, ...] = ()


def train(
    prepared: Prepared,
    seed: int,
    reporter: Reporter,
    kept: Path | None = None,
    strategy: Any = None,
    budget: Budget | None = None,
) -> Result:
    """Train, compress, judge and report, in memory; the same data and ``seed`` give the same network.

    In the folder ``kept``, if given, is what a training that was killed goes on from. Under a ``strategy`` of
    :mod:`trainer.distribution` float networks are trained by all its replicas. With a ``budget`` a search
    takes the place of the recipe's compression; what its minutes suffice for hangs on the machine.

    Raises:
        ScanwrightError: the network did not learn anything that tells images apart, or conversion failed.
    """
    lesson = Lesson(prepared, seed, reporter, kept, strategy)
    seconds: dict[str, float] = {}
    with _timed(seconds, "training"):
        model, history = learn(lesson)
    wanted = prepared.recipe.compression
    images, calibration = calibration_images(lesson.train, wanted.calibration_images, seed)
    provenance = Provenance(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        recipe=prepared.recipe.model_dump(mode="json"),
        seed=seed,
        training_data=learned_from(prepared),
        calibration=calibration,
        tools=tools("tensorflow", "tf-keras", "tensorflow-model-optimization", "numpy", "ai-edge-litert"),
    )

    def drafted(file: bytes) -> Manifest:
        return draft(prepared, *describe(file), provenance)

    compressor, tried = Compressor(model, lesson), tuple[Found, ...]()
    with _timed(seconds, "compression"):
        if budget is not None:
            tried, wanted = search(
                compressor,
                wanted,
                budget,
                lambda network: to_int8(network, images),
                lambda int8: tuning_figures(int8, drafted(int8), prepared.tune),
            )
            prepared = replace(prepared, recipe=prepared.recipe.model_copy(update={"compression": wanted}))
            provenance = provenance.model_copy(update={"recipe": prepared.recipe.model_dump(mode="json")})
        final, epochs = compressor.compress(wanted)
        history += epochs
    with _timed(seconds, "export"):
        reporter.say("Quantizing to int8, and judging every variant through the device's interpreter")
        models = {"float": to_float(model)}
        before_rounding = models["float"] if final is model else to_float(final)
        if wanted.channels < 1 or (wanted.sparsity and wanted.pruning_epochs):
            models["pruned"] = before_rounding
        models["int8"] = to_int8(final, images)
        layers = layer_errors(before_rounding, models["int8"], prepared.tune.pixels)
    keras_file = _saved(model)
    with _timed(seconds, "judging"):
        finished = finish(
            prepared,
            models,
            {name: drafted(file) for name, file in models.items()},
            seed,
            history=history,
            costs=Costs(wanted, sparsity(final), layers=layers, budget=budget, tried=tried),
            keras_bytes=len(keras_file),
        )
    files = {**finished.files, "float.keras": keras_file}
    files["recipe.yaml"] = yaml.safe_dump(
        prepared.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True
    ).encode()
    files["history.json"] = to_json(
        {"schema_version": 1, "epochs": [asdict(e) for e in history], "seconds": seconds}
    )
    return Result(files, finished.variants, tried)


def _saved(model: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.keras"
        model.save(path)
        return path.read_bytes()


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[what] = round(time.perf_counter() - began, 2)
