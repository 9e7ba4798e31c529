"""From exported files to what a RUN holds of them: judged, decided, reported. Imports no TensorFlow."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from edge import __version__
from edge.bundle.manifest import (
    Decision,
    Fingerprint,
    InputSpec,
    Manifest,
    OutOfDistribution,
    OutputSpec,
    Provenance,
    QualityLimits,
    Runtime,
)
from edge.imaging.fingerprint import encode_hashes
from edge.imaging.quality import fit_limits
from edge.inference import ood
from edge.inference.decision import probabilities
from edge.inference.prediction import Prediction
from trainer.evaluation.costs import Costs
from trainer.evaluation.decisions import fit_thresholds
from trainer.evaluation.gates import fit_gate
from trainer.evaluation.report import Story, render
from trainer.evaluation.variants import Variant, drops_between, judge, operate
from trainer.history import Epoch
from trainer.preparation import Prepared

__all__ = ["Finished", "draft", "finish", "learned_from", "to_json", "tools"]

UNASSIGNED = "unassigned"
FIRST_VERSION = "0.1.0"


@dataclass(frozen=True)
class Finished:
    """The RUN's files of the models, by name, and the variants ("float", "pruned", "int8")."""

    files: dict[str, bytes]
    variants: dict[str, Variant]


def finish(
    prepared: Prepared,
    models: Mapping[str, bytes],
    drafts: Mapping[str, Manifest],
    seed: int,
    *,
    history: Sequence[Epoch] = (),
    costs: Costs | None = None,
    **more: Any,
) -> Finished:
    """Judge every variant on held-out images, decide through the int8 one, and report.

    Args:
        prepared: the data; only its tuning part fits temperature, thresholds and limits.
        models: TensorFlow Lite files by variant, "int8" among them.
        drafts: the manifest of each before anything was fitted.
        seed: of the bootstrap.
        history: of the training, where there was one.
        costs: of the compression, but for what each variant lost against float, which is found here.
        more: further keys of ``metrics.json``.
    """
    judged = {
        name: judge(f"{name}.tflite", model, drafts[name], prepared.tune, prepared.held_out, seed)
        for name, model in models.items()
    }
    variants = {name: variant for name, (variant, _) in judged.items()}
    manifest, gate = _decide(drafts["int8"], variants, judged["int8"][1], prepared)
    operating = operate(variants["int8"].predictions, manifest, gate, prepared.held_out)
    drops = {
        name: drops_between(variants["float"], variant, prepared.held_out, manifest, seed)
        for name, variant in variants.items()
        if name != "float" and "float" in variants
    }
    story = Story(
        prepared, manifest, variants, list(history), operating, replace(costs or Costs(), drops=drops)
    )
    files = {f"{name}.tflite": model for name, model in models.items()}
    files["ood.npz"] = gate.to_npz()
    files["metrics.json"] = to_json(_metrics(story, seed) | more)
    files["manifest.json"] = manifest.model_dump_json(indent=2).encode()
    files["report.html"] = render(story).encode()
    return Finished(files, variants)


def draft(
    prepared: Prepared, spec: InputSpec, outputs: tuple[OutputSpec, ...], provenance: Provenance
) -> Manifest:
    """The manifest of a model before anything was fitted."""
    recipe = prepared.recipe
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
        provenance=provenance,
    )


def learned_from(prepared: Prepared) -> Fingerprint:
    """The fingerprint of all images that decided something: those that train and those that tune."""
    return encode_hashes([*prepared.train.loaded.hashes, *prepared.tune.loaded.hashes])


def tools(*packages: str) -> dict[str, str]:
    """The versions of scanwright, Python and ``packages``."""
    return {
        "scanwright": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def to_json(content: dict[str, Any]) -> bytes:
    """A RUN's JSON file."""
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


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


def _metrics(story: Story, seed: int) -> dict[str, Any]:
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
        **story.costs.as_json(),
        "operating": asdict(story.operating),
        "data": {
            "generated": prepared.generated,
            "counts": {part.name: part.counts for part in prepared.parts},
            "duplicates_across_splits": asdict(prepared.leaks),
            "unreadable": prepared.unreadable,
        },
    }
