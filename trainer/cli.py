"""The ``scanwright train`` command. TensorFlow is imported only once the input is known to be good."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from edge import __version__
from edge.errors import ScanwrightError
from trainer.budget import Budget, Found, parse_budget
from trainer.recipe import load_recipe, recipe_names

if TYPE_CHECKING:
    from trainer.pipeline import Result
    from trainer.preparation import Prepared

__all__ = ["train"]

EPILOG = """\b
Examples:
  scanwright train --out run                     learns from generated phantoms
  scanwright train --data images --out run       a folder of class folders
  scanwright train --data data.npz --out run     a MedMNIST file
  scanwright train --recipe breast-ultrasound --data images --out run
  scanwright train --recipe segmentation --data outlined --out run
                                                 images/X.png with masks/X.png
  scanwright train --data images --out run --budget size=250kB,latency=5ms,target=raspberry-pi-4
"""


@click.command(epilog=EPILOG)
@click.option(
    "--recipe",
    "recipe_name",
    default="classifier",
    show_default=True,
    metavar="NAME",
    help=f"A shipped recipe ({', '.join(recipe_names())}) or a .yaml file.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of class folders, also below train/, val/ and test/; or of images/ and masks/; or with "
    "labels.csv; or a MedMNIST .npz. Without it, phantoms are generated.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="RUN", help="New folder for the results."
)
@click.option("--epochs", type=click.IntRange(1, 10000), help="In place of the recipe's.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option(
    "--budget",
    metavar="LIMITS",
    help="Search for the best int8 model within size, transfer (compressed size) and latency, for so many "
    "minutes (10 unless given). Latency is measured here and estimated for the target.",
)
@click.option(
    "--folds",
    type=click.IntRange(2, 20),
    help="First cross-validate on so many parts of the images that are not held out.",
)
@click.option(
    "--distribute",
    type=click.Choice(["mirrored", "workers"]),
    help="Train on all accelerators of this machine, or on the machines that TF_CONFIG names.",
)
def train(
    recipe_name: str,
    data: Path | None,
    out: Path,
    epochs: int | None,
    seed: int,
    folds: int | None,
    distribute: str | None,
    budget: str | None,
) -> None:
    """Train, prune and quantize a network; leaves RUN with the models and report.html.

    A training that was interrupted goes on when the same command is given again.

    Not a medical device: findings are decision support.
    """
    from trainer.preparation import PHANTOM_COUNTS, from_data, from_phantoms, prepare, tell_problems
    from trainer.progress import Reporter
    from trainer.run import begin, check_free, write_run

    began = time.monotonic()
    recipe = load_recipe(recipe_name)
    limits = parse_budget(budget) if budget is not None else None
    check_free(out)
    reporter = Reporter()
    if data is None:
        with reporter.bar(f"Generating {recipe.phantom} phantoms", sum(PHANTOM_COUNTS.values())) as advance:
            dataset = from_phantoms(recipe, seed, advance)
    else:
        dataset = from_data(data, recipe)
    prepared = prepare(recipe, dataset, seed, reporter, epochs=epochs, generated=data is None)
    tell_problems(prepared, reporter)
    counts = ", ".join(f"{len(part.pixels)} {part.name}" for part in prepared.parts)
    height, width, _ = prepared.input_shape
    reporter.say(f"{counts} images of {', '.join(prepared.labels)}, as {height} x {width} pixels")

    from trainer.distribution import is_chief, strategy
    from trainer.learning import Lesson, learn
    from trainer.pipeline import train as run_pipeline

    replicas = strategy(distribute)
    if not is_chief(replicas):
        learn(Lesson(prepared, seed, reporter, strategy=replicas))
        reporter.say("This worker has done its part; worker 0 writes the run")
        return
    kept = None
    if distribute != "workers":  # after a kill, several machines would go on from different epochs
        kept, again = begin(out, _identity(prepared, seed, limits))
        if again:
            reporter.say(f"Going on with the training that was interrupted in {out}")
    files = {}
    if folds:
        from trainer.folds import cross_validate

        summary = cross_validate(prepared, dataset, folds, seed, reporter, kept)
        files["folds.json"] = (json.dumps(summary, indent=2) + "\n").encode()
        _show_folds(summary)
    result = run_pipeline(prepared, seed, reporter, kept, replicas, limits)
    write_run(out, result.files | files)
    _conclude(result, prepared.held_out.name)
    click.echo(f"Done in {time.monotonic() - began:.0f} s. Report: {out / 'report.html'}")
    if limits and not result.tried[0].fits:
        raise ScanwrightError(
            f"nothing that was tried meets the budget ({limits.in_words()}); the best found, "
            f"{result.tried[0].in_words()}, is in {out}. Raise a limit, give it more minutes, or a smaller "
            "model.width or input"
        )
    click.echo(f"Next: scanwright package {out} --target {_target(limits)} --out dist")


def _identity(prepared: Prepared, seed: int, limits: Budget | None) -> dict[str, Any]:
    """All that decides what a training gives."""
    return {
        "version": __version__,
        "seed": seed,
        "recipe": prepared.recipe.model_dump(mode="json"),
        "budget": limits and limits.model_dump(mode="json"),
        "data": {part.name: part.digest for part in prepared.parts},
    }


def _target(limits: Budget | None) -> str:
    return (limits and limits.target) or "raspberry-pi-5"


def _show_folds(summary: dict[str, Any]) -> None:
    table = Table(title=f"Cross-validation, {summary['folds']} folds: mean ± SD", title_justify="left")
    for head in ("variant", "figure", "mean", "folds"):
        table.add_column(head)
    for variant, figures in summary["variants"].items():
        for figure, of in figures.items():
            each = " ".join("-" if value is None else f"{value:.3f}" for value in of["values"])
            spread = "" if of["sd"] is None else f" ± {of['sd']:.4f}"
            table.add_row(variant, figure, f"{of['mean']:.4f}{spread}", each)
    Console().print(table)


def _conclude(result: Result, split: str) -> None:
    table = Table(title=f"Held-out images: {split}", title_justify="left")
    masks = result.variants["int8"].masks is not None
    figures = ("Dice", "IoU") if masks else ("AUROC", "accuracy")
    for head in ("variant", figures[0], "95 % interval", figures[1], "file", "gzip"):
        table.add_column(head, justify="left" if head == "variant" else "right")
    for name, variant in result.variants.items():
        own = variant.metrics
        first, second = (own.dice, own.iou) if masks else (own.auroc, own.accuracy)
        table.add_row(
            name,
            "-" if first is None else f"{first.value:.4f}",
            "-" if first is None else f"{first.low:.3f}-{first.high:.3f}",
            "-" if second is None else f"{second.value:.4f}",
            f"{len(variant.model) / 1000:.0f} kB",
            f"{variant.gzip_bytes / 1000:.0f} kB",
        )
    if "pruned" in result.variants:
        table.caption = "Pruned weights compress the transfer (gzip); fewer channels and int8 make it faster."
        table.caption_justify = "left"
    console = Console()
    console.print(table)
    if result.tried:
        console.print(_tried(result.tried))


def _tried(tried: Sequence[Found]) -> Table:
    table = Table(title="Tried, judged on tuning images; the first was taken", title_justify="left")
    heads = ("channels", "pruned", "method", tried[0].measure, "file", "gzip", "ms", "fits", "front")
    for head in heads:
        table.add_column(head, justify="left" if head == "method" else "right")
    for found in tried:
        settings = (f"{100 * found.channels:g}%", f"{found.sparsity:.0%}", found.method)
        table.add_row(*settings, *found.figures())
    return table
