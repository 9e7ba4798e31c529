"""The ``scanwright train`` command. TensorFlow is imported only once the input is known to be good."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from edge import __version__
from edge.imaging.fingerprint import encode_hashes
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
    help="Folder of class folders, also below train/, val/ and test/; or with labels.csv; or a MedMNIST "
    ".npz. Without it, phantoms are generated.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="RUN", help="New folder for the results."
)
@click.option("--epochs", type=click.IntRange(1, 10000), help="In place of the recipe's.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
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
) -> None:
    """Train, prune and quantize a network; leaves RUN with the models and report.html.

    A training that was interrupted goes on when the same command is given again.

    Not a medical device: findings are decision support.
    """
    from trainer.preparation import from_data, from_phantoms, prepare
    from trainer.progress import Reporter
    from trainer.run import begin, check_free, write_run

    began = time.monotonic()
    recipe = load_recipe(recipe_name)
    check_free(out)
    reporter = Reporter()
    if data is None:
        reporter.say(f"Generating {recipe.phantom} phantoms")
    dataset = from_phantoms(recipe, seed) if data is None else from_data(data, recipe)
    prepared = prepare(recipe, dataset, seed, reporter, epochs=epochs, generated=data is None)
    if prepared.unreadable:
        count, first = len(prepared.unreadable), prepared.unreadable[0]
        reporter.say(f"{count} files cannot be read and are left out; first: {first}")
    if prepared.leaks.count:
        reporter.say(f"{prepared.leaks.count} images stand in more than one part; the report names some")
    if prepared.leaks.near:
        reporter.say(
            f"{prepared.leaks.near} images look the same as one of an earlier part; the report names some"
        )
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
        kept, again = begin(out, _identity(prepared, seed))
        if again:
            reporter.say(f"Going on with the training that was interrupted in {out}")
    files = {}
    if folds:
        from trainer.folds import cross_validate

        summary = cross_validate(prepared, dataset, folds, seed, reporter, kept)
        files["folds.json"] = (json.dumps(summary, indent=2) + "\n").encode()
        _show_folds(summary)
    result = run_pipeline(prepared, seed, reporter, kept, replicas)
    write_run(out, result.files | files)
    _conclude(result, prepared.held_out.name, out, time.monotonic() - began)


def _identity(prepared: Prepared, seed: int) -> dict[str, Any]:
    """All that decides what a training gives."""
    return {
        "version": __version__,
        "seed": seed,
        "recipe": prepared.recipe.model_dump(mode="json"),
        "data": {part.name: encode_hashes(part.loaded.hashes).hashes for part in prepared.parts},
    }


def _show_folds(summary: dict[str, Any]) -> None:
    table = Table(title=f"Cross-validation, {summary['folds']} folds: mean ± SD", title_justify="left")
    for head in ("variant", "figure", "mean", "folds"):
        table.add_column(head)
    for variant, figures in summary["variants"].items():
        for figure, of in figures.items():
            each = " ".join(f"{value:.3f}" for value in of["values"])
            table.add_row(variant, figure, f"{of['mean']:.4f} ± {of['sd']:.4f}", each)
    Console().print(table)


def _conclude(result: Result, split: str, out: Path, seconds: float) -> None:
    table = Table(title=f"Held-out images: {split}", title_justify="left")
    for head in ("variant", "AUROC", "95 % interval", "accuracy", "file", "gzip"):
        table.add_column(head, justify="left" if head == "variant" else "right")
    for name, variant in result.variants.items():
        auroc, accuracy = variant.metrics.auroc, variant.metrics.accuracy
        table.add_row(
            name,
            "-" if auroc is None else f"{auroc.value:.4f}",
            "-" if auroc is None else f"{auroc.low:.3f}-{auroc.high:.3f}",
            "-" if accuracy is None else f"{accuracy.value:.4f}",
            f"{len(variant.model) / 1000:.0f} kB",
            f"{variant.gzip_bytes / 1000:.0f} kB",
        )
    Console().print(table)
    click.echo(f"Done in {seconds:.0f} s. Report: {out / 'report.html'}")
    click.echo(f"Next: scanwright package {out} --target raspberry-pi-5 --out dist")
