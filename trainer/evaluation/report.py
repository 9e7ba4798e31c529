"""The report of a training: one HTML file that needs nothing else and fetches nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

import numpy as np
import yaml

from edge.bundle.manifest import Interval, Manifest
from trainer.evaluation import plots
from trainer.evaluation.metrics import one_vs_rest, positive_class
from trainer.evaluation.pictures import Picture, examples, mistakes, picture
from trainer.evaluation.variants import Operating, Variant
from trainer.history import Epoch
from trainer.preparation import Prepared

__all__ = ["Story", "render"]

NONE = "–"
NOT_A_DEVICE = (
    "Not a medical device. What this model says is decision support for trained people; it replaces neither "
    "their judgement nor any approval that clinical use needs."
)
VARIANT_TITLES = {"float": "float32, as trained", "pruned": "pruned, float32", "int8": "int8, what ships"}
QUALITY_TITLES = {
    "brightness": "Brightness (mean gray, 0 to 255)",
    "contrast": "Contrast (standard deviation of gray)",
    "sharpness": "Sharpness (variance of the Laplacian)",
}


@dataclass(frozen=True)
class Story:
    """Everything that the report and ``metrics.json`` tell.

    ``notes`` say how a model that was not trained here came into this form.
    """

    prepared: Prepared
    manifest: Manifest
    variants: dict[str, Variant]
    history: list[Epoch]
    operating: Operating
    sparsity: float
    notes: tuple[str, ...] = ()

    @property
    def int8(self) -> Variant:
        """The variant that ships."""
        return self.variants["int8"]


def render(story: Story) -> str:
    """The report's HTML. All text from data, file names included, is escaped."""
    style = (files("trainer.evaluation") / "report.css").read_text(encoding="utf-8")
    sections = (
        _head(story),
        _tiles(story),
        _variants(story),
        _classes(story),
        _curves(story),
        _pictures(story),
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
    return (
        f"<h1>{escape(manifest.name)}</h1>"
        f'<p class="soft">{escape(prepared.recipe.title)} · {escape(", ".join(manifest.labels))} · '
        f"learned from {learned} · {escape(manifest.provenance.created[:10])}</p>"
        f'<p class="notice">{NOT_A_DEVICE}</p>'
        f"<p><b>Intended use.</b> {escape(manifest.intended_use.statement)}</p>"
    )


def _tiles(story: Story) -> str:
    metrics, labels = story.int8.metrics, story.manifest.labels
    positive = positive_class(labels, story.manifest.decision.negative_label)
    if positive is None:
        of, chosen = "mean over the classes", list(metrics.per_class.values())
    else:
        of, chosen = f"of “{labels[positive]}”", [metrics.per_class[labels[positive]]]
    sizes = len(story.variants["float"].model), len(story.int8.model)
    packed = story.variants["float"].gzip_bytes, story.int8.gzip_bytes
    tiles = (
        ("Accuracy", _percent(_value(metrics.accuracy)), _between(metrics.accuracy, 100, "%")),
        ("AUROC", _number(_value(metrics.auroc)), _between(metrics.auroc)),
        ("Sensitivity", _percent(_mean(_value(m.sensitivity) for m in chosen)), of),
        ("Specificity", _percent(_mean(_value(m.specificity) for m in chosen)), of),
        ("int8 model", _kb(sizes[1]), f"{_kb(packed[1])} compressed, as it is sent"),
        ("Smaller than float", f"{sizes[0] / sizes[1]:.1f}×", f"{packed[0] / packed[1]:.1f}× compressed"),
    )
    cells = "".join(
        f'<div class="tile">{title}<b>{escape(value)}</b><span>{escape(below)}</span></div>'
        for title, value, below in tiles
    )
    return (
        f'<div class="tiles">{cells}</div><p class="soft">All results here: {metrics.n} held-out images '
        f"(“{escape(metrics.split)}”) that no weight, threshold or limit was fitted on, each run through "
        "the interpreter that the device runs. In brackets: 95 % bootstrap intervals.</p>"
    )


def _variants(story: Story) -> str:
    rows = []
    for name, variant in story.variants.items():
        metrics = variant.metrics
        cells = (
            VARIANT_TITLES[name],
            _with_interval(metrics.auroc),
            _with_interval(metrics.accuracy),
            _number(variant.summary["balanced_accuracy"]),
            _number(variant.summary["f1"]),
            _number(metrics.ece),
            _kb(len(variant.model)),
            _kb(variant.gzip_bytes),
        )
        rows.append(_row(cells, chosen=name == "int8"))
    heads = ("Variant", "AUROC", "Accuracy", "Balanced acc.", "F1 (macro)", "ECE", "File", "gzip")
    pruned = (
        f"{story.sparsity:.0%} of the convolutions' weights are zero. Pruning makes the file compress better "
        "on the wire and on the card; it makes nothing faster in these interpreters. Speed comes from int8."
        if story.sparsity
        else "This model is not pruned."
    )
    return _section(
        "Float, pruned and int8",
        _table(heads, rows) + f'<p class="soft">{pruned} ECE: expected calibration error.</p>',
    )


def _classes(story: Story) -> str:
    variant, labels = story.int8, story.manifest.labels
    rows = [
        _row(
            (
                label,
                str(m.n),
                _with_interval(m.auroc),
                _with_interval(m.sensitivity),
                _with_interval(m.specificity),
                _number(m.precision),
                _number(m.f1),
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
        f"<div><h3>Reliability</h3>{plots.reliability(sure, right)}"
        "<small>On the dotted line, a confidence of 0.8 is right 8 times in 10. Numbers: images.</small>"
        "</div>"
    )
    return _section(
        "The int8 model, class by class",
        f'{_table(heads, rows)}{confusion}<div class="columns">{charts}</div>',
    )


def _confusion(labels: Sequence[str], counts: list[list[int]]) -> str:
    rows = []
    for label, row in zip(labels, counts, strict=True):
        cells = "".join(
            f'<td class="cell" style="background: color-mix(in srgb, var(--{"good" if true else "bad"}) '
            f'{round(55 * count / max(sum(row), 1))}%, transparent)">{count}</td>'
            for count, true in zip(row, (name == label for name in labels), strict=True)
        )
        rows.append(f"<tr><td>{escape(label)}</td>{cells}</tr>")
    heads = "".join(f"<th>{escape(label)}</th>" for label in labels)
    return (
        '<h3>Confusion matrix</h3><div class="scroll"><table class="confusion">'
        f"<tr><th>true ↓ predicted →</th>{heads}</tr>{''.join(rows)}</table></div>"
    )


def _curves(story: Story) -> str:
    note = (
        "Tuning images are kept apart from the training images: they choose the epoch, the temperature, the "
        "thresholds and the limits. Training figures are of augmented images, hence often the worse ones; "
        "while pruning, the float network's answers stand in for the labels."
    )
    return _section("Learning", plots.learning_curves(story.history) + f'<p class="soft">{note}</p>')


def _pictures(story: Story) -> str:
    if story.manifest.task != "single-label":
        return ""
    variant, part, labels = story.int8, story.prepared.held_out, story.manifest.labels

    def gallery(indices: list[int]) -> str:
        shown = (picture(i, part, variant.predictions, variant.probabilities, labels) for i in indices)
        return f'<div class="pictures">{"".join(_figure(p) for p in shown)}</div>'

    truth, scores = part.truth, variant.probabilities
    wrong = mistakes(scores, truth)
    number = int((scores.argmax(axis=1) != truth).sum())
    worst = (
        f"<h3>The worst {len(wrong)} of {number} mistakes</h3>{gallery(wrong)}"
        if wrong
        else "<p>No mistakes.</p>"
    )
    return _section(
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
        _row((label, f"{t.value:.4f}", f"{t.min:.4f} to {t.max:.4f}"))
        for label, t in decision.thresholds.items()
    ]
    limits = [_row(("Shorter side (pixels)", f"at least {quality.min_side}"))]
    for key, title in QUALITY_TITLES.items():
        limit = getattr(quality, key)
        limits.append(_row((title, f"{limit.min:.4g} to {limit.max:.4g}")))
    limits.append(_row(("Colour (mean spread of the channels)", f"at most {quality.max_colour:.4g}")))
    if decision.ood:
        limits.append(_row(("Distance from the training images", f"at most {decision.ood.limit:.4g}")))
    if decision.abstain_below:
        limits.append(_row(("Largest probability", f"at least {decision.abstain_below:.2f}")))
    reasons = ", ".join(f"{escape(code)} {count}" for code, count in operating.reasons.items())
    results = [
        _row(
            ("Images with a finding that are called positive (sensitivity)", _percent(operating.sensitivity))
        ),
        _row(("Images without one that are called negative (specificity)", _percent(operating.specificity))),
        _row(
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
    return _section(
        "From probability to decision",
        f"<p>{meaning} Logits are divided by a temperature of {decision.temperature:.3f}. A class is "
        f"reported from its threshold on, which was set to find {aim} of it among the tuning images, and "
        "which a site may move within the stated range. Where the image is not fit, or unlike the training "
        f"images, there is no result but a reason.</p>{_table(('Decisions on held-out images', ''), results)}"
        f'<div class="columns"><div>{_table(("Class", "Threshold", "A site may set"), thresholds)}</div>'
        f"<div>{_table(('Gate', 'Limit'), limits)}</div></div>",
    )


def _data(story: Story) -> str:
    prepared = story.prepared
    titles = ("training", "tuning", f"held out (“{prepared.held_out.name}”)")
    counts = [part.counts for part in prepared.parts]
    rows = [_row((label, *(str(count[label]) for count in counts))) for label in prepared.labels]
    rows.append(_row(("images", *(str(len(part.pixels)) for part in prepared.parts)), chosen=True))
    leaks, unreadable = prepared.leaks, prepared.unreadable
    duplicates = (
        f"<p><b>{leaks.count} images stand in more than one part</b>, pixel for pixel, which flatters the "
        f"results:</p>{_list(leaks.examples)}"
        if leaks.count
        else "<p>No image stands in more than one part (same pixels).</p>"
    )
    left_out = (
        f"<details><summary>{len(unreadable)} files were left out</summary>{_list(unreadable)}</details>"
        if unreadable
        else "<p>Every image file could be read.</p>"
    )
    return _section("Data", _table(("Class", *titles), rows) + duplicates + left_out)


def _origin(story: Story) -> str:
    provenance = story.manifest.provenance
    recipe = yaml.safe_dump(
        story.prepared.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True
    )
    tools = " · ".join(f"{name} {version}" for name, version in provenance.tools.items())
    return _section(
        "How it was made",
        f'<p class="soft">Seed {provenance.seed} · {escape(tools)}</p>'
        f"<details><summary>Recipe, as resolved</summary><pre>{escape(recipe)}</pre></details>",
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def _table(heads: Sequence[str], rows: Iterable[str]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _row(cells: Sequence[str], chosen: bool = False) -> str:
    mark = ' class="chosen"' if chosen else ""
    return f"<tr{mark}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _list(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _value(interval: Interval | None) -> float | None:
    return None if interval is None else interval.value


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}"


def _between(interval: Interval | None, times: int = 1, unit: str = "") -> str:
    if interval is None:
        return NONE
    digits = 3 if times == 1 else 1
    return f"[{interval.low * times:.{digits}f} to {interval.high * times:.{digits}f}{unit}]"


def _with_interval(interval: Interval | None) -> str:
    return NONE if interval is None else f"{interval.value:.3f} {_between(interval)}"


def _kb(size: int) -> str:
    return f"{size / 1000:.0f} kB"
