"""The whole training: a float network, its pruned copy, int8, decisions, results and the report."""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from edge import __version__
from edge.bundle.manifest import (
    Calibration,
    Decision,
    Manifest,
    OutOfDistribution,
    Provenance,
    QualityLimits,
    Runtime,
)
from edge.imaging.fingerprint import encode_hashes
from edge.imaging.quality import fit_limits
from edge.inference import ood
from edge.inference.decision import probabilities
from edge.inference.prediction import Prediction
from trainer.budget import Budget, Found
from trainer.compression.plan import Compressor
from trainer.compression.pruning import sparsity
from trainer.compression.quantization import calibration_images, describe, to_float, to_int8
from trainer.compression.search import search
from trainer.evaluation.costs import Costs
from trainer.evaluation.decisions import fit_thresholds
from trainer.evaluation.gates import fit_gate
from trainer.evaluation.layers import layer_errors
from trainer.evaluation.report import Story, render
from trainer.evaluation.variants import Variant, drops_between, judge, operate, tuning_figures
from trainer.learning import Lesson, learn
from trainer.preparation import Prepared
from trainer.progress import Reporter

__all__ = ["Result", "train"]

UNASSIGNED = "unassigned"
FIRST_VERSION = "0.1.0"


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
    compressor, tried = Compressor(model, lesson), tuple[Found, ...]()
    with _timed(seconds, "compression"):
        if budget is not None:
            tried, wanted = search(
                compressor,
                wanted,
                budget,
                lambda network: to_int8(network, images),
                lambda int8: tuning_figures(int8, _draft(prepared, seed, int8, calibration), prepared.tune),
            )
            prepared = replace(prepared, recipe=prepared.recipe.model_copy(update={"compression": wanted}))
        final, epochs = compressor.compress(wanted)
        history += epochs
    with _timed(seconds, "export"):
        reporter.say("Quantizing to int8, and judging every variant through the device's interpreter")
        models = {"float": to_float(model)}
        if wanted.channels < 1 or wanted.sparsity:
            models["pruned"] = to_float(final)
        models["int8"] = to_int8(final, images)
        layers = layer_errors(to_float(final), models["int8"], prepared.tune.pixels)
    with _timed(seconds, "judging"):
        judged = {
            name: judge(
                f"{name}.tflite",
                model,
                _draft(prepared, seed, model, calibration),
                prepared.tune,
                prepared.held_out,
                seed,
            )
            for name, model in models.items()
        }
        variants = {name: variant for name, (variant, _) in judged.items()}
        manifest, gate = _decide(
            _draft(prepared, seed, models["int8"], calibration), variants, judged["int8"][1], prepared
        )
        operating = operate(variants["int8"].predictions, manifest, gate, prepared.held_out)
        drops = {
            name: drops_between(variants["float"], variant, prepared.held_out, manifest, seed)
            for name, variant in variants.items()
            if name != "float"
        }
    costs = Costs(wanted, sparsity(final), drops, layers, budget, tried)
    story = Story(prepared, manifest, variants, history, operating, costs)
    files = {f"{name}.tflite": model for name, model in models.items()}
    files["float.keras"] = _saved(model)
    files["ood.npz"] = gate.to_npz()
    files["recipe.yaml"] = yaml.safe_dump(
        prepared.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True
    ).encode()
    files["history.json"] = _json(
        {"schema_version": 1, "epochs": [asdict(e) for e in history], "seconds": seconds}
    )
    files["metrics.json"] = _json(_metrics(story, seed, len(files["float.keras"])))
    files["manifest.json"] = manifest.model_dump_json(indent=2).encode()
    files["report.html"] = render(story).encode()
    return Result(files, variants, tried)


def _decide(
    draft: Manifest, variants: dict[str, Variant], tuning: list[Prediction], prepared: Prepared
) -> tuple[Manifest, ood.OodModel]:
    """The manifest with its decisions, fitted through the int8 model on images that are not held out."""
    recipe = prepared.recipe
    gate = fit_gate(
        variants["int8"].model, draft, prepared.train, prepared.tune, tuning, recipe.decision.rejection
    )
    temperature = variants["int8"].temperature
    decision = draft.decision.model_copy(update={"temperature": temperature})
    scores = probabilities(
        np.stack([p.logits for p in tuning]), draft.model_copy(update={"decision": decision})
    )
    decision = Decision(
        temperature=temperature,
        negative_label=recipe.negative_label,
        thresholds=fit_thresholds(
            scores,
            prepared.tune.targets,
            prepared.labels,
            recipe.negative_label,
            recipe.task,
            recipe.decision.sensitivity,
        ),
        target_sensitivity=recipe.decision.sensitivity,
        abstain_below=recipe.decision.abstain_below,
        ood=OutOfDistribution(limit=gate.limit, rejection=recipe.decision.rejection, layout=gate.layout_side),
    )
    measures = prepared.train.loaded.measures + prepared.tune.loaded.measures
    changes = {
        "decision": decision,
        "quality": fit_limits(measures, recipe.decision.rejection),
        "metrics": {name: variant.metrics for name, variant in variants.items()},
    }
    return Manifest.model_validate(dict(draft) | changes), gate


def _draft(prepared: Prepared, seed: int, model: bytes, calibration: Calibration) -> Manifest:
    """The manifest of a model before anything was fitted."""
    recipe = prepared.recipe
    spec, outputs = describe(model)
    learned_from = [*prepared.train.loaded.hashes, *prepared.tune.loaded.hashes]
    return Manifest(
        name=prepared.name,
        version=FIRST_VERSION,
        intended_use=recipe.intended_use,
        task=recipe.task,
        labels=prepared.labels,
        input=spec,
        steps=prepared.steps,
        outputs=outputs,
        decision=Decision(negative_label=recipe.negative_label, thresholds={}),
        quality=QualityLimits(),
        ejection_fraction=recipe.ejection_fraction,
        runtime=Runtime(operators=(), min_version=""),
        target=UNASSIGNED,
        provenance=Provenance(
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            recipe=recipe.model_dump(mode="json"),
            seed=seed,
            training_data=encode_hashes(learned_from),
            calibration=calibration,
            tools=_tools(),
        ),
    )


def _metrics(story: Story, seed: int, keras_bytes: int) -> dict[str, Any]:
    prepared = story.prepared
    return {
        "schema_version": 1,
        "split": prepared.held_out.name,
        "seed": seed,
        "labels": prepared.labels,
        "task": prepared.recipe.task,
        "variants": {
            name: variant.metrics.model_dump(mode="json")
            | {
                "file": variant.file,
                "file_bytes": len(variant.model),
                "gzip_bytes": variant.gzip_bytes,
                "temperature": variant.temperature,
            }
            | {key: variant.summary[key] for key in ("balanced_accuracy", "f1", "confusion")}
            for name, variant in story.variants.items()
        },
        "keras_bytes": keras_bytes,
        **story.costs.as_json(),
        "operating": asdict(story.operating),
        "data": {
            "generated": prepared.generated,
            "counts": {part.name: part.counts for part in prepared.parts},
            "duplicates_across_splits": asdict(prepared.leaks),
            "unreadable": prepared.unreadable,
        },
    }


def _saved(model: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.keras"
        model.save(path)
        return path.read_bytes()


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def _tools() -> dict[str, str]:
    packages = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "numpy", "ai-edge-litert")
    return {
        "scanwright": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[what] = round(time.perf_counter() - began, 2)
