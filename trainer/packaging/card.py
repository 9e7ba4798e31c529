"""The model card: what a person should know of a bundle before using it, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from edge.bundle.manifest import Interval, LabelMetrics, Manifest, Provenance, VariantMetrics
from edge.bundle.target import Target
from edge.inference.onnx import LOGITS_STEPS, OTHERS_STEPS

__all__ = ["model_card"]


def model_card(manifest: Manifest, target: Target, counts: Mapping[str, Mapping[str, int]]) -> str:
    """``MODEL_CARD.md``.

    Args:
        manifest: of the bundle, complete but for its members.
        target: the board it is for.
        counts: images of each label in each part of the data, as far as they are known.
    """
    use, decision = manifest.intended_use, manifest.decision
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        use.statement,
        "",
        "**Not a medical device.** Its findings are decision support for people who know their limits.",
        "",
        "## Intended use",
        "",
        *_table(
            ("", "limited to"),
            [
                ("modality (DICOM 0008,0060)", ", ".join(use.modality) or "not limited"),
                ("body part (0018,0015)", ", ".join(use.body_part) or "not limited"),
                ("view (0018,5101)", ", ".join(use.view) or "not limited"),
                ("age in years", _ages(use.min_age_years, use.max_age_years)),
            ],
        ),
        "",
        f"Task: {manifest.task}. Labels: {', '.join(manifest.labels)}. Nothing found is called: "
        f"{decision.negative_label or 'no label is said to mean that'}.",
        "",
        "## Data",
        "",
        *_data(manifest, counts),
        "",
        "## Held-out results",
        "",
        *_results(manifest.metrics),
        "",
        "## Decisions",
        "",
        *_decisions(manifest),
        "",
        "## Made by",
        "",
        *_origin(manifest.provenance),
        "",
        *(f"- {name} {version}" for name, version in sorted(manifest.provenance.tools.items())),
        "",
        "## Runs on",
        "",
        *_target(manifest, target),
    ]
    return "\n".join(lines) + "\n"


def _origin(provenance: Provenance) -> list[str]:
    if provenance.source is None:
        seed = f" with seed {provenance.seed}" if provenance.seed is not None else ""
        return [f"Trained {provenance.created}{seed}."]
    return [
        f"**Trained elsewhere**, brought as {provenance.source.format} (SHA-256 {provenance.source.sha256}) "
        f"on {provenance.created}. What it learned from is not known here: if the held-out images were among "
        "it, the results above are flattered.",
        "",
        *(f"- {note}" for note in provenance.source.notes),
    ]


def _data(manifest: Manifest, counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    lines = []
    if counts:
        rows = [
            (part, *(str(found.get(label, 0)) for label in manifest.labels)) for part, found in counts.items()
        ]
        lines += [*_table(("images", *manifest.labels), rows), ""]
    fingerprint, calibration = manifest.provenance.training_data, manifest.provenance.calibration
    if fingerprint:
        lines.append(
            f"The bundle knows {fingerprint.count} distinct images that it learned from or was fitted on, by "
            "short hashes of their pixels, so that an evaluation on them is noticed. It holds no image."
        )
    if calibration:
        lines.append(f"Quantization ranges come from {calibration.count} training images.")
    return lines or ["Nothing is known of the training data."]


def _results(metrics: Mapping[Any, VariantMetrics]) -> list[str]:
    if not metrics:
        return ["None: this model was not measured."]
    if any(m.dice for m in metrics.values()):
        return _masks(metrics)
    rows = [
        (
            name,
            m.split,
            str(m.n),
            _interval(m.auroc),
            _interval(m.accuracy),
            _number(m.ece),
            f"{m.model_bytes:,}",
        )
        for name, m in metrics.items()
    ]
    lines = _table(("variant", "split", "images", "AUROC", "accuracy", "ECE", "bytes"), rows)
    lines += [
        "",
        "In brackets: 95 % intervals of a stratified bootstrap. The bundle holds the int8 variant:",
        "",
    ]
    return lines + _by_label(
        metrics,
        ("label", "images", "AUROC", "sensitivity", "specificity", "precision", "F1"),
        lambda own: (
            *map(_interval, (own.auroc, own.sensitivity, own.specificity)),
            *map(_number, (own.precision, own.f1)),
        ),
        "Each label against the rest, at the most probable label, before thresholds.",
    )


def _masks(metrics: Mapping[Any, VariantMetrics]) -> list[str]:
    rows = [
        (name, m.split, str(m.n), _interval(m.dice), _interval(m.iou), f"{m.model_bytes:,}")
        for name, m in metrics.items()
    ]
    lines = _table(("variant", "split", "images", "Dice", "IoU", "bytes"), rows)
    lines += [
        "",
        "Dice and IoU: overlap of the masks, all images' pixels together, the mean over the labels but the "
        "background. In brackets: 95 % intervals of a bootstrap over patients. The bundle holds the int8 "
        "variant:",
        "",
    ]
    return lines + _by_label(
        metrics,
        ("label", "images that show it", "Dice", "IoU", "sensitivity", "specificity"),
        lambda own: tuple(map(_interval, (own.dice, own.iou, own.sensitivity, own.specificity))),
        "Sensitivity and specificity: whether the image shows it, at a probability of one half.",
    )


def _by_label(
    metrics: Mapping[Any, VariantMetrics],
    heads: tuple[str, ...],
    cells: Callable[[LabelMetrics], tuple[str, ...]],
    note: str,
) -> list[str]:
    """The int8 variant's figures of each label: its name, its images and ``cells``, and a note below."""
    if "int8" not in metrics:
        return []
    rows = [(label, str(own.n), *cells(own)) for label, own in metrics["int8"].per_class.items()]
    return [*_table(heads, rows), "", note]


def _decisions(manifest: Manifest) -> list[str]:
    decision, quality = manifest.decision, manifest.quality
    rows = [
        (label, f"{limit.value:g}", f"{limit.min:g} to {limit.max:g}")
        for label, limit in decision.thresholds.items()
    ]
    lines = _table(("positive label", "from probability", "a site may choose"), rows) if rows else []
    if decision.target_sensitivity is not None:
        lines += [
            "",
            f"Thresholds aim at a sensitivity of {decision.target_sensitivity:g}, on tuning images.",
        ]
    lines += [
        "",
        f"Temperature: {decision.temperature:g}. There is no result, and the reason is said, when",
        "",
    ]
    lines += [
        f"- the image's shorter side is under {quality.min_side} pixels, its brightness outside "
        f"{quality.brightness.min:.4g} to {quality.brightness.max:.4g}, its contrast outside "
        f"{quality.contrast.min:.4g} to {quality.contrast.max:.4g}, its sharpness outside "
        f"{quality.sharpness.min:.4g} to {quality.sharpness.max:.4g} "
        f"or its colour above {quality.max_colour:g};"
    ]
    if decision.ood:
        judged = ["features"] if any(output.name == "embedding" for output in manifest.outputs) else []
        judged += ["layout (what lies where)"] if decision.ood.layout else []
        lines.append(
            f"- the image is unlike the training images, by its {' or its '.join(judged)}: Mahalanobis "
            f"distance above {decision.ood.limit:.4g}, fitted to reject {decision.ood.rejection:.1%} of "
            "images like them."
        )
    else:
        lines.append("- (**off**: this model cannot tell images unlike its training images from others).")
    if decision.abstain_below:
        lines.append(f"- the largest probability is below {decision.abstain_below:g}.")
    if not any(output.name == "cam" for output in manifest.outputs):
        lines += ["", "Heat map: **off**: this network keeps no map of where it looked."]
    if manifest.ejection_fraction:
        lines += [
            "",
            f"Of a cine the cart gives the ejection fraction of '{manifest.ejection_fraction}' by the "
            "single-plane area-length method, in apical views only, and says why where it gives none.",
        ]
    return lines


def _target(manifest: Manifest, target: Target) -> list[str]:
    proofs = [f"- {proof.by}: {proof.what}" for proof in target.proven]
    lines = [
        f"{target.title} ({target.board}), {target.interpreter} {target.interpreter_version}. The operators "
        f"are in TensorFlow Lite {manifest.runtime.min_version} and newer. What is proven on this board:",
        "",
        *proofs,
    ]
    if "model.onnx" in target.extra_members:
        lines += [
            "",
            "On the board's GPU runs `model.onnx`: the same integer weights, with symmetric scales between "
            "layers. All measurements here are of the int8 model on the CPU. A cart uses the GPU only where, "
            "on the golden vectors, logits differ from that model's by at most "
            f"{LOGITS_STEPS} steps of 255 and other outputs by {OTHERS_STEPS:g} on average; else it stays on "
            "the CPU and says why.",
        ]
    return lines


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _ages(least: float | None, most: float | None) -> str:
    if least is None and most is None:
        return "not limited"
    return f"{'' if least is None else f'{least:g}'} to {'' if most is None else f'{most:g}'}".strip()


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
