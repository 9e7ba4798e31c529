"""The results of a segmentation, as sections of the report."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.frame import Pixels
from edge.imaging.overlay import outline_png
from trainer.data.masks import resized
from trainer.evaluation import plots
from trainer.evaluation.costs import compression_costs, compression_note
from trainer.evaluation.markup import (
    LEARNING_NOTE,
    VARIANT_TITLES,
    between,
    held_out_note,
    kb,
    number,
    row,
    section,
    table,
    tiles,
    value_of,
    with_interval,
)

if TYPE_CHECKING:
    from trainer.evaluation.report import Story

__all__ = ["examples", "sections"]

SHOWN_SIDE = 256
SHOWN = 6  # of the best, and of the worst
WORST, BEST = "The worst masks", "The best masks"


def sections(story: Story) -> tuple[str, ...]:
    """Figures, variants, classes, learning curves and pictures; HTML each."""
    return _tiles(story), _variants(story), _classes(story), _curves(story), _pictures(story)


def _tiles(story: Story) -> str:
    metrics = story.int8.metrics
    sizes = len(story.variants["float"].model), len(story.int8.model)
    packed = story.variants["float"].gzip_bytes, story.int8.gzip_bytes
    of = "mean over the labels" if len(story.manifest.labels) > 2 else f"of “{story.manifest.labels[1]}”"
    shown = (
        ("Dice", number(value_of(metrics.dice)), f"{of} {between(metrics.dice)}"),
        ("IoU", number(value_of(metrics.iou)), f"{of} {between(metrics.iou)}"),
        ("int8 model", kb(sizes[1]), f"{kb(packed[1])} compressed, as it is sent"),
        ("Smaller than float", f"{sizes[0] / sizes[1]:.1f}×", f"{packed[0] / packed[1]:.1f}× compressed"),
    )
    return tiles(shown) + held_out_note(metrics)


def _variants(story: Story) -> str:
    rows = []
    for name, variant in story.variants.items():
        cells = (
            VARIANT_TITLES[name],
            with_interval(variant.metrics.dice),
            with_interval(variant.metrics.iou),
            kb(len(variant.model)),
            kb(variant.gzip_bytes),
        )
        rows.append(row(cells, chosen=name == "int8"))
    return section(
        "Float, pruned and int8",
        table(("Variant", "Dice", "IoU", "File", "gzip"), rows)
        + f'<p class="soft">{compression_note(story.costs)} Dice and IoU: overlap of the masks, all images\' '
        "pixels together; the intervals come from resampling whole patients or clips.</p>"
        + compression_costs(story.costs),
    )


def _classes(story: Story) -> str:
    rows = [
        row(
            (
                label,
                str(own.n),
                with_interval(own.dice),
                with_interval(own.iou),
                with_interval(own.sensitivity),
                with_interval(own.specificity),
            )
        )
        for label, own in story.int8.metrics.per_class.items()
        if label != story.manifest.labels[0]
    ]
    heads = ("Label", "Images that show it", "Dice", "IoU", "Sensitivity", "Specificity")
    return section(
        "The int8 model, label by label",
        table(heads, rows)
        + '<p class="soft">Sensitivity and specificity: whether the whole image shows it, at a probability '
        "of one half.</p>",
    )


def _curves(story: Story) -> str:
    return section("Learning", plots.learning_curves(story.history, "dice") + LEARNING_NOTE)


def examples(dice: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """Images with the least and with the greatest Dice, from ``[n, K - 1]``; none without any."""
    there = ~np.isnan(dice)
    known = np.flatnonzero(there.any(axis=1))
    means = np.where(there, dice, 0).sum(axis=1)[known] / there.sum(axis=1)[known]
    ranked = [int(index) for index in known[np.argsort(means, kind="stable")]]
    worst = ranked[:SHOWN]
    return worst, [index for index in ranked[::-1][:SHOWN] if index not in worst]


def _pictures(story: Story) -> str:
    dice = story.int8.dice
    assert dice is not None
    worst, best = examples(dice)
    galleries = "".join(
        f'<h3>{title}</h3><div class="pictures">{"".join(_figure(story, i) for i in chosen)}</div>'
        for title, chosen in ((WORST, worst), (BEST, best))
        if chosen
    )
    return section(
        "What it outlined",
        '<p class="soft">Left, the outline that the data has; right, the one that the model draws. These are '
        f"images of the data: treat this file as you treat them.</p>{galleries}",
    )


def _figure(story: Story, index: int) -> str:
    part, variant = story.prepared.held_out, story.int8
    assert part.masks is not None and variant.masks is not None and variant.dice is not None
    pixels, classes = part.loaded.pixels[index], len(part.labels)
    scale = SHOWN_SIDE / max(pixels.shape[:2])
    shown = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)
    values = ", ".join(
        f"{escape(label)} {value:.3f}"
        for label, value in zip(part.labels[1:], variant.dice[index], strict=True)
        if not np.isnan(value)
    )
    return (
        f'<figure><div><img src="{_outlined(shown, part.masks[index], classes)}" alt="true outline">'
        f'<img src="{_outlined(shown, variant.masks[index], classes)}" alt="predicted outline"></div>'
        f"<figcaption>Dice {values}<br><small>{escape(part.loaded.samples[index].name)}</small>"
        "</figcaption></figure>"
    )


def _outlined(pixels: Pixels, mask: Pixels, classes: int) -> str:
    shown = resized(mask, *pixels.shape[:2])
    png = outline_png(pixels, [shown == index for index in range(1, classes)])
    return "data:image/png;base64," + base64.b64encode(png).decode()
