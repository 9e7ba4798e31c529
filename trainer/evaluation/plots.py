"""The report's charts, as SVG that takes its colours from the page it stands in."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trainer.budget import Budget, Found
from trainer.evaluation import curves
from trainer.history import Epoch

__all__ = ["front", "learning_curves", "precision_recall", "reliability", "roc"]

INK, SOFT = "#010203", "#040506"
SERIES = ["#070801", "#070802", "#070803", "#070804", "#070805", "#070806"]
"""Colours that no chart would have by chance; the page's own take their place."""

PAGE_COLOURS = {INK: "currentColor", SOFT: "var(--line)"} | {
    placeholder: f"var(--series-{number})" for number, placeholder in enumerate(SERIES, 1)
}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "scanwright",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": SOFT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}

Floats = NDArray[np.float64]


def learning_curves(history: Sequence[Epoch], figure_of_merit: str = "accuracy") -> str:
    """Loss and accuracy (or "dice") of every epoch, the pruning's after the training's."""
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 3.1), layout="constrained")
        epochs = np.arange(1, len(history) + 1)
        for axes, what in zip(figure.subplots(1, 2), ("loss", figure_of_merit), strict=True):
            axes.plot(
                epochs, [getattr(e, what) for e in history], color=SERIES[0], label="training, augmented"
            )
            axes.plot(epochs, [getattr(e, f"tune_{what}") for e in history], color=SERIES[1], label="tuning")
            height, side = (0.98, "top") if what == "loss" else (0.02, "bottom")
            for name in ("channels", "pruning", "quantization"):
                places = [place for place, e in zip(epochs, history, strict=True) if e.stage == name]
                if places:
                    axes.axvline(places[0] - 0.5, color=INK, linewidth=0.8, linestyle=":")
                    axes.text(places[0] - 0.4, height, name, transform=axes.get_xaxis_transform(), va=side)
            axes.set(xlabel="epoch", ylabel=what)
            axes.legend(loc="best")
        return _svg(figure, f"Loss and {figure_of_merit} of training and tuning images, epoch by epoch")


def roc(scores: Floats, known: NDArray[np.bool_], labels: Sequence[str], shown: Sequence[int]) -> str:
    """ROC curves, one for each class in ``shown``, of ``scores[n, K]`` against ``known[n, K]``."""
    with rc_context(STYLE):
        figure = Figure(figsize=(4.8, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        for place, column in _drawn(known, shown):
            curve = curves.roc(scores[:, column], known[:, column])
            _curve(axes, curve, SERIES[place % len(SERIES)], labels[column])
        axes.set(xlabel="1 − specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.legend(loc="lower right")
        return _svg(figure, "Receiver operating characteristic on held-out images, with 95 % bands")


def precision_recall(
    scores: Floats, known: NDArray[np.bool_], labels: Sequence[str], shown: Sequence[int]
) -> str:
    """Precision-recall curves; the arguments are those of :func:`roc`. Dotted: how common each class is."""
    with rc_context(STYLE):
        figure = Figure(figsize=(4.8, 4.2), layout="constrained")
        axes = figure.subplots()
        for place, column in _drawn(known, shown):
            found, colour = scores[:, column], SERIES[place % len(SERIES)]
            area = curves.average_precision(found, known[:, column])
            curve = curves.precision_recall(found, known[:, column])
            _curve(axes, curve, colour, f"{labels[column]}, mean {area:.3f}")
            axes.axhline(known[:, column].mean(), color=colour, linewidth=0.8, linestyle=":")
        axes.set(xlabel="recall (sensitivity)", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.legend(loc="lower left")
        return _svg(figure, "Precision and recall on held-out images, with 95 % bands")


def _drawn(known: NDArray[np.bool_], shown: Sequence[int]) -> list[tuple[int, int]]:
    """Places and columns of the classes that have a curve: some images show them and some do not."""
    columns = enumerate(shown)
    return [(place, c) for place, c in columns if known[:, c].any() and not known[:, c].all()]


def _curve(axes: Any, curve: curves.Curve, colour: str, label: str) -> None:
    axes.fill_between(curves.GRID, curve.low, curve.high, color=colour, alpha=0.13, linewidth=0)
    axes.plot(curve.x, curve.y, color=colour, label=label)


def reliability(confidence: Floats, correct: NDArray[np.bool_], bins: int = 10) -> str:
    """How often answers of each confidence are right; ``confidence[n]`` and ``correct[n]``."""
    with rc_context(STYLE):
        figure = Figure(figsize=(4.8, 4.2), layout="constrained")
        axes = figure.subplots()
        place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
        counts = np.bincount(place, minlength=bins)
        filled = counts > 0
        rights = np.bincount(place, weights=correct, minlength=bins)[filled] / counts[filled]
        means = np.bincount(place, weights=confidence, minlength=bins)[filled] / counts[filled]
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        left = np.arange(bins)[filled] / bins
        axes.bar(left, rights, width=0.94 / bins, align="edge", color=SERIES[0], alpha=0.35)
        axes.plot(means, rights, "o", color=SERIES[0], markersize=5)
        for x, y, count in zip(means, rights, counts[filled], strict=True):
            axes.annotate(
                str(count), (x, y), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8
            )
        axes.set(xlabel="confidence", ylabel="share of right answers", xlim=(0, 1.01), ylim=(0, 1.1))
        return _svg(
            figure, "Reliability: share of right answers by confidence, with the number of images in each bin"
        )


def front(tried: Sequence[Found], budget: Budget) -> str:
    """What a search tried: the score on tuning images against size and against latency.

    The Pareto front is joined by a line, limits are dotted lines, the one that was taken has a ring.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 3.4), layout="constrained")
        latency = f"ms an image, {f'estimated for {budget.target}' if budget.target else 'here'}"
        scores = [found.score for found in tried]
        for axes, values, limit, title in zip(
            figure.subplots(1, 2, sharey=True),
            ([found.size / 1000 for found in tried], [found.latency for found in tried]),
            (budget.size and budget.size / 1000, budget.latency),
            ("int8 file, kB", latency),
            strict=True,
        ):
            # Only what is better than all that is smaller, or faster, is on the front.
            lead: list[tuple[float, float]] = []
            for value, score in sorted(zip(values, scores, strict=True), key=lambda at: (at[0], -at[1])):
                if not lead or score > lead[-1][1]:
                    lead.append((value, score))
            axes.plot(*zip(*lead, strict=True), color=SERIES[0], linewidth=1)
            for found, value in zip(tried, values, strict=True):
                face = SERIES[0] if found.fits else "none"
                axes.plot(value, found.score, "o", color=SERIES[0], markerfacecolor=face, markersize=5)
                if found.best:
                    axes.plot(value, found.score, "o", color=INK, fillstyle="none", markersize=11)
            if limit:
                axes.axvline(limit, color=INK, linewidth=0.8, linestyle=":")
                place = axes.get_xaxis_transform()
                axes.text(limit, 0.02, " limit", transform=place, va="bottom", fontsize=8)
            axes.set(xlabel=title, xlim=(0, None))
        figure.axes[0].set(ylabel=f"{tried[0].measure}, tuning")
        return _svg(figure, "Score on tuning images against size and time of every combination tried")


def _svg(figure: Any, description: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Inside HTML an <svg> needs no namespaces, and a page that fetches nothing should name no address.
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(
        r'<svg[^>]*?viewBox="([^"]*)"[^>]*>',
        rf'<svg viewBox="\1" role="img" aria-label="{description}">',
        text,
        count=1,
    )
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    for placeholder, colour in PAGE_COLOURS.items():
        text = text.replace(placeholder, colour)
    return text
