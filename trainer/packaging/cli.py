"""``scanwright package``."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["package"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--target", required=True, help="The board; 'scanwright targets' lists them.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the bundle.")
@click.option("--name", help="Name of the bundle instead of the run's.")
@click.option("--version", help="MAJOR.MINOR.PATCH instead of the run's.")
def package(run: Path, target: str, out: Path, name: str | None, version: str | None) -> None:
    """Make a bundle for a target from RUN, a folder that 'scanwright train' left.

    Refused where the int8 model is worse than the float one on the held-out images.
    """
    from edge.bundle.archive import open_bundle
    from edge.bundle.target import target as find_target
    from trainer.packaging.package import package as make

    path = make(run, target, out, name, version)
    click.echo(f"{path}  {path.stat().st_size:,} bytes")
    click.echo(f"look at it:  scanwright inspect {path}")
    if find_target(target).interpreter == "litert-web":
        app = path.with_name(f"{open_bundle(path).manifest.name}-app")
        click.echo(f"run it:      serve {app} by https (docs/how-to/phone.md) and open it on the phone")
    else:
        click.echo(
            "run it:      name it in 'bundles' of an agent's config with 'allow_unsigned: true' (the bundle"
        )
        click.echo("             is not signed), then: scanwright agent run --config FILE")
