"""``scanwright publish``: bundles and agents, signed into the release repository."""

from __future__ import annotations

from pathlib import Path

import click

from edge.keys.release_cli import keys_option, passphrase_of, passphrase_option

__all__ = ["publish"]


@click.command()
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--repo",
    "repository",
    metavar="REPO",
    required=True,
    type=click.Path(path_type=Path),
    help="The repository's folder, made if need be.",
)
@keys_option
@click.option("--site", "sites", multiple=True, help="Only for carts of this site; may be repeated.")
@click.option("--device", "devices", multiple=True, help="Only for this cart, SITE/CART; may be repeated.")
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=1095,
    show_default=True,
    help="How long what is signed now is good for.",
)
@passphrase_option
def publish(
    files: tuple[Path, ...],
    repository: Path,
    folder: Path,
    sites: tuple[str, ...],
    devices: tuple[str, ...],
    days: int,
    passphrase_file: Path | None,
) -> None:
    """Sign bundles (.swb) and agent packages (.swa) into the repository that carts update from.

    \b
    Examples:
      scanwright publish dist/chest-1.2.0-raspberry-pi-5.swb --repo repository --keys release-keys
      scanwright publish --repo repository --keys release-keys

    The repository is plain files: let any web server give it out, or copy it to a card or stick. Without a
    FILE what is there is signed anew, with a new end.
    """
    from edge.keys.release import ReleaseKeys
    from edge.keys.repository import described, publish_files

    keys = ReleaseKeys(folder)
    found = {path: described(path, sites, devices) for path in files}
    names = publish_files(repository, keys, passphrase_of(keys, passphrase_file), found, days)
    for name in names:
        click.echo(f"{name}: published")
    click.echo(f"{repository}: signed, good for {days} days")
