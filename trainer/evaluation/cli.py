"""``scanwright evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.output import json_option, write_json

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["evaluate"]


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Labelled images.")
@click.option("--split", help="train, val, test or all; else test, else val, else all.")
@click.option("--onnx", is_flag=True, help="Score model.onnx, which a Jetson's GPU runs.")
@json_option
def evaluate(bundle: Path, data: Path, split: str | None, onnx: bool, json_file: str | None) -> None:
    """Measure BUNDLE on labelled images, through the path that a device takes.

    A prediction is the argmax of calibrated probabilities: thresholds change decisions, not these figures.
    Images that the cart would give no result for are scored all the same, and counted as abstained.
    """
    from edge.bundle.archive import open_bundle
    from trainer.data.dataset import load_dataset
    from trainer.data.folders import SPLITS
    from trainer.evaluation.evaluate import evaluate as measure
    from trainer.progress import Reporter

    opened = open_bundle(bundle)
    dataset = load_dataset(data, opened.manifest.labels)
    name = SPLITS.get(split.lower(), split) if split else dataset.default_split
    with Reporter().bar("Evaluating", len(dataset.split(name))) as advance:
        result = measure(opened, dataset, name, advance, onnx=onnx)
    if result["overlap"]:
        click.echo(
            f"warning: {result['overlap']} of {result['n']} images are among those the model was trained on; "
            "these figures are not held-out ones",
            err=True,
        )
    if json_file:
        write_json(result, json_file)
    if json_file == "-":
        return

    from rich.console import Console

    console = Console(highlight=False)
    console.print(f"{bundle.name} on {data}, split {name}: {result['n']} images", markup=False)
    keys = ("auroc", "accuracy", "balanced_accuracy", "f1", "ece", "dice", "iou")
    console.print("   ".join(f"{key} {_figure(result[key])}" for key in keys if key in result))
    why = f" (first: {dataset.unreadable[0][1]})" if result["unreadable"] else ""
    console.print(
        f"no result for {result['abstained']}, unreadable {result['unreadable']}{why}", markup=False
    )
    console.print(_per_class(result["per_class"]))
    if opened.manifest.task == "single-label":
        console.print(_confusion(result["confusion"], opened.manifest.labels))


def _figure(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _per_class(per_class: dict[str, dict[str, Any]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("label", *next(iter(per_class.values())), title="Each label against the rest")
    for label, figures in per_class.items():
        table.add_row(escape(label), *map(_figure, figures.values()))
    return table


def _confusion(counts: list[list[int]], labels: tuple[str, ...]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("true \\ predicted", *map(escape, labels), title="Confusion")
    for label, row in zip(labels, counts, strict=True):
        table.add_row(escape(label), *map(str, row))
    return table
