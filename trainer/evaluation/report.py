"""The report of a training: one HTML file that needs nothing else and fetches nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import numpy as np
import yaml

from edge.bundle.manifest import Manifest
from trainer.evaluation import masks_report, plots
from trainer.evaluation.costs import Costs, compression_costs, compression_note, within_budget
from trainer.evaluation.groups import by_group
from trainer.evaluation.markup import (
    LEARNING_NOTE,
    NONE,
    VARIANT_TITLES,
    between,
    held_out_note,
    kb,
    listed,
    mean_of,
    number,
    percent,
    row,
    section,
    table,
    tiles,
    value_of,
    with_interval,
)
from trainer.evaluation.metrics import one_vs_rest, positive_class
from trainer.evaluation.pictures import Picture, examples, mistakes, picture
from trainer.evaluation.variants import Operating, Variant
from trainer.history import Epoch
from trainer.preparation import Prepared

__all__ = ["Story", "render"]

NOT_A_DEVICE = (
    "Not a medical device. What this model says is decision support for trained people; it replaces neither "
    "their judgement nor any approval that clinical use needs."
)
QUALITY_TITLES = {
    "brightness": "Brightness (mean gray, 0 to 255)",
    "contrast": "Contrast (standard deviation of gray)",
    "sharpness": "Sharpness (variance of the Laplacian)",
}


@dataclass(frozen=True)
class Story:
    """Everything that the report and ``metrics.json`` tell."""

    prepared: Prepared
    manifest: Manifest
    variants: dict[str, Variant]
    history: list[Epoch]
    operating: Operating
    costs: Costs

    @property
    def int8(self) -> Variant:
        """The variant that ships."""
        return self.variants["int8"]


def render(story: Story) -> str:
    """The report's HTML. All text from data, file names included, is escaped."""
    style = (files("trainer.evaluation") / "report.css").read_text(encoding="utf-8")
    if story.manifest.task == "segmentation":
        results = masks_report.sections(story)
    else:
        shown = (_tiles, _variants, _classes, _groups, _curves, _pictures)
        results = tuple(part(story) for part in shown)
    sections = (
        _head(story),
        *results,
        *([within_budget(story.costs)] if story.costs.budget else []),
        _decision(story),
        _data(story),
        _origin(story),
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(story.prepared.name)}: training report</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body><main>\n{''.join(sections)}</main></body>\n</html>\n"
    )


def _head(story: Story) -> str:
    manifest, prepared = story.manifest, story.prepared
    learned = "generated phantoms" if prepared.generated else f"{len(prepared.train.pixels)} images"
    how = f"learned from {learned}"
    brought = ""
    if source := manifest.provenance.source:
        how = f"trained elsewhere, calibrated on {learned}"
        brought = (
            f'<p class="notice"><b>Trained elsewhere</b> and brought as {source.format}. What it learned '
            "from is not known here: if these held-out images were among it, every result is flattered. "
            f"{escape(' '.join(source.notes))}</p>"
        )
    return (
        f"<h1>{escape(manifest.name)}</h1>"
        f'<p class="soft">{escape(prepared.recipe.title)} · {escape(", ".join(manifest.labels))} · '
        f"{how} · {escape(manifest.provenance.created[:10])}</p>"
        f'<p class="notice">{NOT_A_DEVICE}</p>{brought}'
        f"<p><b>Intended use.</b> {escape(manifest.intended_use.statement)}</p>"
    )


def _tiles(story: Story) -> str:
    metrics, labels = story.int8.metrics, story.manifest.labels
    positive = positive_class(labels, story.manifest.decision.negative_label)
    if positive is None:
        of, chosen = "mean over the classes", list(metrics.per_class.values())
    else:
        of, chosen = f"of “{labels[positive]}”", [metrics.per_class[labels[positive]]]
    int8, packed = len(story.int8.model), story.int8.gzip_bytes
    shown = [
        ("Accuracy", percent(value_of(metrics.accuracy)), between(metrics.accuracy, 100, "%")),
        ("AUROC", number(value_of(metrics.auroc)), between(metrics.auroc)),
        ("Sensitivity", percent(mean_of(value_of(m.sensitivity) for m in chosen)), of),
        ("Specificity", percent(mean_of(value_of(m.specificity) for m in chosen)), of),
        ("int8 model", kb(int8), f"{kb(packed)} compressed, as it is sent"),
    ]
    if whole := story.variants.get("float"):  # a model that was brought in int8 has none
        smaller = f"{whole.gzip_bytes / packed:.1f}× compressed"
        shown.append(("Smaller than float", f"{len(whole.model) / int8:.1f}×", smaller))
    return tiles(shown) + held_out_note(metrics)


def _variants(story: Story) -> str:
    if story.manifest.provenance.source and "float" not in story.variants:
        return section(
            "Quantization",
            "<p>The model was brought in int8, so nothing here tells what quantization cost it. Bring its "
            "float file to have both measured on the same images.</p>",
        )
    rows = []
    for name, variant in story.variants.items():
        metrics = variant.metrics
        cells = (
            VARIANT_TITLES[name],
            with_interval(metrics.auroc),
            with_interval(metrics.accuracy),
            number(variant.summary["balanced_accuracy"]),
            number(variant.summary["f1"]),
            number(metrics.ece),
            kb(len(variant.model)),
            kb(variant.gzip_bytes),
            f"{np.median([p.elapsed_ms['infer'] for p in variant.predictions]):.2f} ms",
        )
        rows.append(row(cells, chosen=name == "int8"))
    heads = ("Variant", "AUROC", "Accuracy", "Balanced acc.", "F1 (macro)", "ECE", "File", "gzip", "Time")
    note = "" if story.manifest.provenance.source else compression_note(story.costs)
    return section(
        "Float, pruned and int8",
        table(heads, rows)
        + f'<p class="soft">{note} ECE: expected calibration error. Time: of one inference on the machine '
        "that made this report, one thread, median; 'scanwright bench' tells it on a cart.</p>"
        + compression_costs(story.costs),
    )


def _classes(story: Story) -> str:
    variant, labels = story.int8, story.manifest.labels
    rows = [
        row(
            (
                label,
                str(m.n),
                with_interval(m.auroc),
                with_interval(m.sensitivity),
                with_interval(m.specificity),
                number(m.precision),
                number(m.f1),
            )
        )
        for label, m in variant.metrics.per_class.items()
    ]
    heads = ("Class", "Images", "AUROC", "Sensitivity (recall)", "Specificity", "Precision", "F1")
    known = one_vs_rest(story.prepared.held_out.truth, len(labels))
    positive = positive_class(labels, story.manifest.decision.negative_label)
    if story.manifest.task == "multi-label":
        said = variant.probabilities >= 0.5
        sure = np.where(said, variant.probabilities, 1 - variant.probabilities).reshape(-1)
        right, confusion = (said == known).reshape(-1), ""
    else:
        sure = variant.probabilities.max(axis=1)
        right = variant.probabilities.argmax(axis=1) == story.prepared.held_out.truth
        confusion = _confusion(labels, variant.summary["confusion"])
    shown = range(len(labels)) if positive is None else [positive]
    charts = (
        f"<div><h3>ROC</h3>{plots.roc(variant.probabilities, known, labels, shown)}</div>"
        "<div><h3>Precision and recall</h3>"
        f"{plots.precision_recall(variant.probabilities, known, labels, shown)}</div>"
        f"<div><h3>Reliability, ECE {number(variant.metrics.ece)}</h3>{plots.reliability(sure, right)}"
        "<small>On the dotted line, a confidence of 0.8 is right 8 times in 10. Numbers: images. ECE: "
        "expected calibration error, the mean distance from that line.</small>"
        "</div>"
    )
    return section(
        "The int8 model, class by class",
        f'{table(heads, rows)}{confusion}<div class="columns">{charts}</div>'
        '<p class="soft">Bands: 95 % of resampled sets of these images. Precision depends on how common a '
        "class is; where it is rarer than here, precision is lower.</p>",
    )


def _confusion(labels: Sequence[str], counts: list[list[int]]) -> str:
    rows = []
    for label, found in zip(labels, counts, strict=True):
        cells = "".join(
            f'<td class="cell" style="background: color-mix(in srgb, var(--{"good" if true else "bad"}) '
            f'{round(55 * count / max(sum(found), 1))}%, transparent)">{count}</td>'
            for count, true in zip(found, (name == label for name in labels), strict=True)
        )
        rows.append(f"<tr><td>{escape(label)}</td>{cells}</tr>")
    heads = "".join(f"<th>{escape(label)}</th>" for label in labels)
    return (
        '<h3>Confusion matrix</h3><div class="scroll"><table class="confusion">'
        f"<tr><th>true ↓ predicted →</th>{heads}</tr>{''.join(rows)}</table></div>"
    )


def _groups(story: Story) -> str:
    return by_group(story.int8, story.prepared.held_out, story.manifest)


def _curves(story: Story) -> str:
    if not story.history:
        return ""
    return section("Learning", plots.learning_curves(story.history) + LEARNING_NOTE)


def _pictures(story: Story) -> str:
    if story.manifest.task != "single-label":
        return ""
    variant, part, labels = story.int8, story.prepared.held_out, story.manifest.labels

    def gallery(indices: list[int]) -> str:
        shown = (picture(i, part, variant.predictions, variant.probabilities, labels) for i in indices)
        return f'<div class="pictures">{"".join(_figure(p) for p in shown)}</div>'

    truth, scores = part.truth, variant.probabilities
    wrong = mistakes(scores, truth)
    count = int((scores.argmax(axis=1) != truth).sum())
    worst = (
        f"<h3>The worst {len(wrong)} of {count} mistakes</h3>{gallery(wrong)}"
        if wrong
        else "<p>No mistakes.</p>"
    )
    return section(
        "Where it looked",
        '<p class="soft">Left, the image as the network sees it; right, where it looked for its answer '
        "(coarse class activation map). Right answers of middling confidence first. These are images of the "
        f"data: treat this file as you treat them.</p>{gallery(examples(scores, truth))}{worst}",
    )


def _figure(shown: Picture) -> str:
    verdict = "right" if shown.right else "wrong"
    said = escape(shown.predicted)
    heat_map = f'<img src="{shown.overlay}" alt="heat map">' if shown.overlay else ""
    return (
        f'<figure><div><img src="{shown.image}" alt="image">{heat_map}</div>'
        f'<figcaption><span class="{verdict}">{said} {shown.probability:.2f}</span>, is {escape(shown.truth)}'
        f"<br><small>{escape(shown.name)}</small></figcaption></figure>"
    )


def _decision(story: Story) -> str:
    decision, quality, operating = story.manifest.decision, story.manifest.quality, story.operating
    thresholds = [
        row((label, f"{t.value:.4f}", f"{t.min:.4f} to {t.max:.4f}"))
        for label, t in decision.thresholds.items()
    ]
    limits = [row(("Shorter side (pixels)", f"at least {quality.min_side}"))]
    for key, title in QUALITY_TITLES.items():
        limit = getattr(quality, key)
        limits.append(row((title, f"{limit.min:.4g} to {limit.max:.4g}")))
    limits.append(row(("Colour (mean spread of the channels)", f"at most {quality.max_colour:.4g}")))
    if decision.ood:
        limits.append(row(("Distance from the training images", f"at most {decision.ood.limit:.4g}")))
    if decision.abstain_below:
        limits.append(row(("Largest probability", f"at least {decision.abstain_below:.2f}")))
    reasons = ", ".join(f"{escape(code)} {count}" for code, count in operating.reasons.items())
    results = [
        row(("Images with a finding that are called positive (sensitivity)", percent(operating.sensitivity))),
        row(("Images without one that are called negative (specificity)", percent(operating.specificity))),
        row(
            (
                "No result" + (f" ({reasons})" if reasons else ""),
                f"{operating.no_result} of {operating.n}",
            )
        ),
    ]
    negative = decision.negative_label
    meaning = (
        f"“{escape(negative)}” means that nothing was found."
        if negative
        else "No class means “nothing found”."
    )
    aim = f"{decision.target_sensitivity:.0%}" if decision.target_sensitivity is not None else NONE
    return section(
        "From probability to decision",
        f"<p>{meaning} Logits are divided by a temperature of {decision.temperature:.3f}. A class is "
        f"reported from its threshold on, which was set to find {aim} of it among the tuning images, and "
        "which a site may move within the stated range. Where the image is not fit, or unlike the training "
        f"images, there is no result but a reason.</p>{table(('Decisions on held-out images', ''), results)}"
        f'<div class="columns"><div>{table(("Class", "Threshold", "A site may set"), thresholds)}</div>'
        f"<div>{table(('Gate', 'Limit'), limits)}</div></div>",
    )


def _data(story: Story) -> str:
    prepared = story.prepared
    titles = ("training", "tuning", f"held out (“{prepared.held_out.name}”)")
    counts = [part.counts for part in prepared.parts]
    rows = [row((label, *(str(count[label]) for count in counts))) for label in prepared.labels]
    rows.append(row(("images", *(str(len(part.pixels)) for part in prepared.parts)), chosen=True))
    leaks, unreadable = prepared.leaks, prepared.unreadable
    duplicates = (
        f"<p><b>{leaks.count} images stand in more than one part</b>, pixel for pixel, which flatters the "
        f"results:</p>{listed(leaks.examples)}"
        if leaks.count
        else "<p>No image stands in more than one part (same pixels).</p>"
    )
    if leaks.near:
        duplicates += (
            f"<p><b>{leaks.near} more look the same</b> as an image of an earlier part: copies in another "
            "size or compression, or neighbours in a series. Look at them before you trust the results:</p>"
            f"{listed(leaks.near_examples)}"
        )
    fingerprint = story.manifest.provenance.training_data
    if fingerprint:
        digest = hashlib.sha256(fingerprint.hashes.encode()).hexdigest()[:16]
        duplicates += (
            f'<p class="soft">Fingerprint of the {fingerprint.count} distinct images that trained and tuned: '
            f"{digest}. The bundle knows each by a short hash, so that an evaluation on them is noticed.</p>"
        )
    left_out = (
        f"<details><summary>{len(unreadable)} files were left out</summary>{listed(unreadable)}</details>"
        if unreadable
        else "<p>Every image file could be read.</p>"
    )
    return section("Data", table(("Class", *titles), rows) + duplicates + left_out)


def _origin(story: Story) -> str:
    provenance = story.manifest.provenance
    recipe = yaml.safe_dump(
        story.prepared.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True
    )
    tools = " · ".join(f"{name} {version}" for name, version in provenance.tools.items())
    seed = "" if provenance.seed is None else f"Seed {provenance.seed} · "
    return section(
        "How it was made",
        f'<p class="soft">{seed}{escape(tools)}</p>'
        f"<details><summary>Recipe, as resolved</summary><pre>{escape(recipe)}</pre></details>",
    )
