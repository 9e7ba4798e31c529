"""``scanwright keys release``: the keys that bundles and agents are signed with for updates."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.keys.passphrase import given_passphrase

if TYPE_CHECKING:
    from edge.keys.release import ReleaseKeys

__all__ = ["keys_option", "passphrase_of", "passphrase_option", "release"]

PASSPHRASE = "SCANWRIGHT_RELEASE_PASSPHRASE"

keys_option = click.option(
    "--keys",
    "folder",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="The release keys.",
)
passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help=f"The first line is the passphrase of the keys; also from ${PASSPHRASE}, else asked for.",
)


def passphrase_of(keys: ReleaseKeys, file: Path | None) -> bytes | None:
    """The passphrase, where the keys need one."""
    return given_passphrase(file, PASSPHRASE, "Passphrase of the release keys") if keys.encrypted() else None


@click.group()
def release() -> None:
    """Make and change the keys that carts believe updates by.

    \b
    Example:
      scanwright keys release init --out release-keys
    """


@release.command()
@click.option("--out", metavar="DIR", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--root-keys", type=click.IntRange(1, 16), default=3, show_default=True, help="How many.")
@click.option(
    "--threshold",
    type=click.IntRange(1, 16),
    default=2,
    show_default=True,
    help="How many of them must sign a change of keys.",
)
@passphrase_option
def init(out: Path, root_keys: int, threshold: int, passphrase_file: Path | None) -> None:
    """Make the keys, and the root that carts pin.

    \b
    Example:
      scanwright keys release init --out release-keys

    Keep the folder off the network, and copies of it; give each root-N.key to another person and take it out
    of the folder. root.json goes onto every cart (update.root).
    """
    from edge.keys.release import ReleaseKeys

    prompt = "New passphrase of the release keys (empty for none)"
    passphrase = given_passphrase(passphrase_file, PASSPHRASE, prompt, confirm=True)
    keys = ReleaseKeys.create(out, passphrase, root_keys, threshold)
    if not keys.encrypted():
        click.echo(f"warning: the keys in {out} are not encrypted; guard the folder", err=True)
    click.echo(f"{out / 'root.json'}: the root that carts pin, as update.root")
    click.echo(f"root keys: {threshold} of {root_keys} must sign a change; keep root-*.key apart")


@release.command()
@click.argument("key", metavar="KEY")
@keys_option
@click.option(
    "--with",
    "folders",
    metavar="DIR",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder with more root keys; may be repeated.",
)
@passphrase_option
def rotate(key: str, folder: Path, folders: tuple[Path, ...], passphrase_file: Path | None) -> None:
    """Put a new key in place of KEY: root-1, root-2, …, targets, snapshot or timestamp.

    \b
    Example:
      scanwright keys release rotate targets --keys release-keys --with /media/stick

    Publish afterwards: carts learn of the change from the repository, and what the old key signed is believed
    no more. Of the root keys as many must be here as the threshold says.
    """
    from edge.keys.release import ReleaseKeys

    keys = ReleaseKeys(folder)
    made = keys.rotate(key, passphrase_of(keys, passphrase_file), folders)
    click.echo(f"{made}: the root with a new '{key}'")
    click.echo(f"now publish: scanwright publish --repo REPO --keys {folder}")


@release.command()
@keys_option
def show(folder: Path) -> None:
    """List the keys in force, and until when the root is good.

    \b
    Example:
      scanwright keys release show --keys release-keys
    """
    from rich.console import Console
    from rich.table import Table

    from edge.keys.release import ReleaseKeys

    keys = ReleaseKeys(folder)
    root = keys.root.signed
    table = Table(title=f"root {root.version}, until {root.expires:%Y-%m-%d}", title_justify="left")
    for heading in ("role", "must sign", "key", "here"):
        table.add_column(heading)
    for role, holder in keys.holders():
        here = "yes" if (folder / f"{holder}.key").exists() else "elsewhere"
        table.add_row(role, str(root.roles[role].threshold), holder, here)
    Console(file=sys.stdout).print(table)
