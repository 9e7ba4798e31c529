"""The whole training: a float network, its pruned copy, int8, decisions, results and the report."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from edge.bundle.manifest import Provenance
from trainer.compression.pruning import prune, sparsity
from trainer.compression.quantization import calibration_images, describe, to_float, to_int8
from trainer.evaluation.variants import Variant
from trainer.finishing import draft, finish, learned_from, to_json, tools
from trainer.history import Epoch
from trainer.learning import Lesson, learn
from trainer.preparation import Prepared
from trainer.progress import Reporter

__all__ = ["Result", "train"]


@dataclass(frozen=True)
class Result:
    """What a training made: the RUN's files by name, and the variants ("float", "pruned", "int8")."""

    files: dict[str, bytes]
    variants: dict[str, Variant]


@dataclass
class _Trained:
    """Networks of one training, with how they came about."""

    model: Any
    pruned: Any | None
    history: list[Epoch]
    seconds: dict[str, float] = field(default_factory=dict)


def train(
    prepared: Prepared, seed: int, reporter: Reporter, kept: Path | None = None, strategy: Any = None
) -> Result:
    """Train, compress, judge and report, in memory; the same data and ``seed`` give the same network.

    In the folder ``kept``, if given, is what a training that was killed goes on from. Under a ``strategy`` of
    :mod:`trainer.distribution` float networks are trained by all its replicas.

    Raises:
        ScanwrightError: the network did not learn anything that tells images apart, or conversion failed.
    """
    trained = _networks(lesson := Lesson(prepared, seed, reporter, kept, strategy))
    with _timed(trained.seconds, "export"):
        reporter.say("Quantizing to int8, and judging every variant through the device's interpreter")
        images, calibration = calibration_images(
            lesson.train, prepared.recipe.compression.calibration_images, seed
        )
        final = trained.model if trained.pruned is None else trained.pruned
        models = {"float": to_float(trained.model)}
        if trained.pruned is not None:
            models["pruned"] = to_float(trained.pruned)
        models["int8"] = to_int8(final, images)
    provenance = Provenance(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        recipe=prepared.recipe.model_dump(mode="json"),
        seed=seed,
        training_data=learned_from(prepared),
        calibration=calibration,
        tools=tools("tensorflow", "tf-keras", "tensorflow-model-optimization", "numpy", "ai-edge-litert"),
    )
    drafts = {name: draft(prepared, *describe(model), provenance) for name, model in models.items()}
    keras_file = _saved(trained.model)
    with _timed(trained.seconds, "judging"):
        finished = finish(
            prepared,
            models,
            drafts,
            seed,
            history=trained.history,
            sparsity=sparsity(final),
            keras_bytes=len(keras_file),
        )
    files = {**finished.files, "float.keras": keras_file}
    files["recipe.yaml"] = yaml.safe_dump(
        prepared.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True
    ).encode()
    files["history.json"] = to_json(
        {"schema_version": 1, "epochs": [asdict(e) for e in trained.history], "seconds": trained.seconds}
    )
    return Result(files, finished.variants)


def _networks(lesson: Lesson) -> _Trained:
    compression = lesson.prepared.recipe.compression
    seconds: dict[str, float] = {}
    with _timed(seconds, "training"):
        model, history = learn(lesson)
    trained = _Trained(model, None, history, seconds)
    if compression.sparsity and compression.pruning_epochs:
        with (
            _timed(seconds, "pruning"),
            lesson.reporter.epochs("Pruning", compression.pruning_epochs) as after,
        ):
            trained.pruned, history = prune(
                model,
                model,
                lesson.train,
                lesson.tune,
                lesson.plan("pruning"),
                compression,
                lambda e: after(e.epoch, e.words),
            )
        trained.history += history
    return trained


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
