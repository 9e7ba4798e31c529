"""``scanwright package``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edge.bundle.target import Target
    from trainer.recipe import Recipe

__all__ = ["package"]

EPILOG = """\b
Examples:
  scanwright package run --target raspberry-pi-5 --out dist
  scanwright package lungs.keras --target phone --out dist --data chest \\
      --labels normal,pneumonia --scale 1/255
  scanwright package net.onnx --target jetson-orin-nano --out dist --data chest \\
      --recipe chest.yaml --scale 1/255 --mean 0.485 --std 0.229
"""


@click.command(epilog=EPILOG)
@click.argument("model", metavar="RUN|MODEL", type=click.Path(path_type=Path))
@click.option("--target", required=True, help="The board; 'scanwright targets' lists them.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the bundle.")
@click.option("--name", help="Name of the bundle instead of the run's or the file's.")
@click.option("--version", help="MAJOR.MINOR.PATCH instead of the run's.")
@click.option("--data", type=click.Path(path_type=Path), help="MODEL only: labelled images to judge it by.")
@click.option("--labels", help="MODEL only: names of its outputs, in their order, separated by commas.")
@click.option("--scale", help="MODEL only: what a pixel of 0 to 255 is multiplied by: 1/255, 1/127.5, 1.")
@click.option("--mean", help="MODEL only: taken off after that; one number, or one a channel.  [default: 0]")
@click.option("--std", help="MODEL only: divided by after that; likewise.  [default: 1]")
@click.option(
    "--steps",
    type=click.Path(path_type=Path),
    help="MODEL only: YAML file with 'steps', the preparation before the resize.",
)
@click.option("--recipe", help="MODEL only: intended use, labels, steps and aims.  [default: classifier]")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="MODEL only: divides the data.  [default: 0]")
def package(
    model: Path, target: str, out: Path, name: str | None, version: str | None, **said: str | Path | None
) -> None:
    """Make a bundle for a target from RUN, a folder that 'scanwright train' left, or from MODEL.

    MODEL is a network that was trained elsewhere: a .keras, .h5, .onnx or .tflite file (float or int8), or
    the folder of a SavedModel. It is quantized, judged on --data, and left as a run beside the bundle.
    Converting may run code that the file holds: bring only files that you trust.

    Refused where the int8 model is worse than the float one on the held-out images.
    """
    from edge.bundle.archive import open_bundle
    from edge.bundle.target import target as find_target
    from trainer.packaging.package import package as make

    board = find_target(target)
    given = [option for option, value in said.items() if value is not None]
    if not given:
        run = model
    elif (model / "manifest.json").is_file():
        raise click.UsageError(f"--{given[0]} is for a model that was trained elsewhere; {model} is a run")
    else:
        run = _bring(model, out, said, board)
    path = make(run, target, out, name, version)
    click.echo(f"{path}  {path.stat().st_size:,} bytes")
    if run != model:
        click.echo(f"its report:  {run / 'report.html'}")
    click.echo(f"look at it:  scanwright inspect {path}")
    if board.interpreter == "litert-web":
        app = path.with_name(f"{open_bundle(path).manifest.name}-app")
        click.echo(f"run it:      serve {app} by https (docs/how-to/phone.md) and open it on the phone")
    else:
        click.echo(f"release it:  scanwright publish {path} --repo REPO --keys DIR")
        click.echo("try it:      name it in 'bundles' of an agent's config with 'allow_unsigned: true' (it")
        click.echo("             is not signed), then: scanwright agent run --config FILE")


def _bring(model: Path, out: Path, said: dict[str, str | Path | None], target: Target) -> Path:
    """The folder of the run that a model from elsewhere was made into."""
    from edge.errors import BadInputError
    from trainer.progress import Reporter
    from trainer.run import write_run

    if said["data"] is None:
        raise BadInputError(
            f"{model}: give labelled images with --data; without them nothing shows that int8 is as good"
        )
    from trainer.brought.bring import Wanted, bring

    scale = said["scale"]
    wanted = Wanted(
        _recipe(said), None if scale is None else str(scale), str(said["mean"] or 0), str(said["std"] or 1)
    )
    made = bring(model, Path(said["data"]), wanted, target, int(str(said["seed"] or 0)), Reporter())
    run = out / f"{model.stem}-run"
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"{run}: cannot be made ({error.strerror})") from error
    write_run(run, made.files)
    return run


def _recipe(said: dict[str, str | Path | None]) -> Recipe:
    from edge.schema import read
    from trainer.recipe import Preparation, load_recipe

    recipe = load_recipe(str(said["recipe"] or "classifier"))
    changes: dict[str, object] = {}
    if said["labels"]:
        changes["labels"] = tuple(label.strip() for label in str(said["labels"]).split(","))
    if said["steps"]:
        changes["steps"] = read(Path(said["steps"]), Preparation).steps
    return recipe.model_copy(update=changes)
