"""The bill of materials: the model and the tools that made it, as CycloneDX 1.5 JSON."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

from edge import __version__
from edge.bundle.manifest import Interval, Manifest

__all__ = ["bill_of_materials"]

# Serial numbers are drawn from the bundle's contents, so that the same inputs give the same bytes.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:scanwright:bill-of-materials")


def bill_of_materials(manifest: Manifest, members: Mapping[str, bytes]) -> bytes:
    """``sbom.cdx.json``: the model with its card, and each tool of the provenance.

    Args:
        manifest: of the bundle.
        members: the bundle's other members; their hashes go in.
    """
    model_hash = hashlib.sha256(members["model.tflite"]).hexdigest()
    reference = f"{manifest.name}@{manifest.version}"
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{reference} {manifest.target} {model_hash}')}",
        "version": 1,
        "metadata": {
            **({"timestamp": manifest.provenance.created} if "T" in manifest.provenance.created else {}),
            "tools": {"components": [{"type": "application", "name": "scanwright", "version": __version__}]},
            "component": {
                "type": "machine-learning-model",
                "bom-ref": reference,
                "name": manifest.name,
                "version": manifest.version,
                "description": manifest.intended_use.statement,
                "hashes": [{"alg": "SHA-256", "content": model_hash}],
                **_pedigree(manifest),
                "modelCard": _model_card(manifest),
                "components": [
                    {
                        "type": "file",
                        "bom-ref": f"{reference}/{name}",
                        "name": name,
                        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}],
                    }
                    for name, data in sorted(members.items())
                ],
            },
        },
        "components": [
            {"type": "library", "bom-ref": f"{name}@{version}", "name": name, "version": version}
            for name, version in sorted(manifest.provenance.tools.items())
        ],
        "dependencies": [
            {
                "ref": reference,
                "dependsOn": [f"{name}@{v}" for name, v in sorted(manifest.provenance.tools.items())],
            }
        ],
    }
    return json.dumps(bill, indent=1, ensure_ascii=False).encode() + b"\n"


def _pedigree(manifest: Manifest) -> dict[str, Any]:
    """What a model that was trained elsewhere was made of."""
    source = manifest.provenance.source
    if source is None:
        return {}
    ancestor = {
        "type": "machine-learning-model",
        "name": f"{manifest.name} ({source.format})",
        "hashes": [{"alg": "SHA-256", "content": source.sha256}],
    }
    return {"pedigree": {"ancestors": [ancestor], "notes": " ".join(source.notes)}}


def _datasets(manifest: Manifest) -> list[dict[str, Any]]:
    known = manifest.provenance.training_data
    if known is None:
        return []
    digest = hashlib.sha256(known.hashes.encode()).hexdigest()
    said = [{"name": "images", "value": str(known.count)}, {"name": "fingerprint-sha256", "value": digest}]
    return [{"type": "dataset", "name": "images that trained and tuned", "contents": {"properties": said}}]


def _model_card(manifest: Manifest) -> dict[str, Any]:
    size = manifest.input
    figures = manifest.metrics.get("int8")
    measured: list[tuple[str, str | None, Interval | None]] = []
    measured += [("AUROC", None, figures.auroc), ("accuracy", None, figures.accuracy)] if figures else []
    if figures:
        measured += [("sensitivity", name, own.sensitivity) for name, own in figures.per_class.items()]
        measured += [("specificity", name, own.specificity) for name, own in figures.per_class.items()]
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": manifest.task,
            "datasets": _datasets(manifest),
            "inputs": [{"format": f"{size.dtype} [1, {size.height}, {size.width}, {size.channels}]"}],
            "outputs": [{"format": f"{one.name} {one.dtype} {list(one.shape)}"} for one in manifest.outputs],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                _metric(kind, label, interval) for kind, label, interval in measured if interval
            ]
        },
        "considerations": {
            "useCases": [manifest.intended_use.statement],
            "technicalLimitations": ["Not a medical device: findings are decision support."],
        },
    }


def _metric(kind: str, label: str | None, interval: Interval) -> dict[str, Any]:
    metric: dict[str, Any] = {"type": kind, "value": f"{interval.value:.4f}"}
    if label:
        metric["slice"] = label
    metric["confidenceInterval"] = {
        "lowerBound": f"{interval.low:.4f}",
        "upperBound": f"{interval.high:.4f}",
    }
    return metric
