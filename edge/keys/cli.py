"""``scanwright keys``: the certificates of a site's broker, carts and headquarters."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.errors import BadInputError, ScanwrightError
from edge.files import write_durably
from edge.keys.mosquitto import FOLDER
from edge.keys.passphrase import given_passphrase
from edge.keys.release_cli import release
from edge.schema import read
from edge.site import Site

if TYPE_CHECKING:
    from edge.keys.folder import KeyFolder

__all__ = ["keys", "passphrase_of"]

PASSPHRASE = "SCANWRIGHT_KEYS_PASSPHRASE"
_PROMPT = "New passphrase of the authority's key (empty for none)"

_site_argument = click.argument("site_file", metavar="SITE.yaml", type=click.Path(path_type=Path))
_dir_option = click.option(
    "--dir", "folder", metavar="DIR", required=True, type=click.Path(path_type=Path), help="The site's keys."
)
_days_option = click.option(
    "--days",
    type=click.IntRange(1, 36500),
    default=825,
    show_default=True,
    help="How long a certificate is valid.",
)
_passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help=f"The first line is the passphrase of the authority's key; also from ${PASSPHRASE}, else asked for.",
)


@click.group()
def keys() -> None:
    """Make and take back the certificates that carts and broker know each other by, and the keys that
    releases are signed with.

    \b
    Examples:
      scanwright keys init SITE.yaml --out keys
      scanwright keys release init --out release-keys
    """


keys.add_command(release)


@keys.command()
@_site_argument
@click.option("--out", metavar="DIR", required=True, type=click.Path(path_type=Path), help="A new folder.")
@_days_option
@_passphrase_option
def init(site_file: Path, out: Path, days: int, passphrase_file: Path | None) -> None:
    """Make a site's authority, its broker's certificate and mosquitto's configuration.

    \b
    Example:
      scanwright keys init SITE.yaml --out keys

    Keep the folder off the network: who has ca.key can be any cart. broker/ goes to the broker,
    headquarters/ to whatever receives the findings.
    """
    site = read(site_file, Site)
    from edge.keys.folder import KeyFolder

    passphrase = given_passphrase(passphrase_file, PASSPHRASE, _PROMPT, confirm=True)
    folder = KeyFolder.create(out, site, days, passphrase)
    if not folder.encrypted():
        click.echo(f"warning: {out / 'ca.key'} is not encrypted; guard the folder", err=True)
    click.echo(f"{out / 'broker'}: copy to {FOLDER} on {site.broker.host}")
    click.echo(f"{out / 'headquarters'}: for the receiver of the findings")


@keys.command()
@_site_argument
@click.argument("name", metavar="DEVICE")
@_dir_option
@click.option("--renew", is_flag=True, help="Replace a certificate that is still valid.")
@_days_option
@_passphrase_option
def device(
    site_file: Path, name: str, folder: Path, renew: bool, days: int, passphrase_file: Path | None
) -> None:
    """Issue a key and certificate to one cart of SITE.yaml (or to 'broker' or 'headquarters').

    \b
    Example:
      scanwright keys device SITE.yaml cart-07 --dir keys

    A cart with a valid certificate keeps it, unless --renew is given; then the old one works until it
    expires. For a cart that was stolen or replaced, revoke first.
    """
    site = read(site_file, Site)
    from edge.keys.folder import KeyFolder

    opened = KeyFolder(folder)
    made = opened.issue(site, name, days, passphrase_of(opened, passphrase_file), renew)
    click.echo(f"{opened.holder(name)}: key and certificate of {name}, valid until {made.expires:%Y-%m-%d}")


@keys.command()
@click.argument("name", metavar="DEVICE")
@_dir_option
@click.option("--stick", type=click.Path(path_type=Path), help="Put the new list into this folder, too.")
@_passphrase_option
def revoke(name: str, folder: Path, stick: Path | None, passphrase_file: Path | None) -> None:
    """Take back every certificate of a cart that was stolen, sold or scrapped.

    \b
    Example:
      scanwright keys revoke cart-07 --dir keys --stick /media/stick

    The broker refuses the cart once it has the new list (broker/crl.pem) and was restarted. A broker that no
    network reaches gets it by stick: see 'keys accept'.
    """
    from edge.keys.folder import KeyFolder

    opened = KeyFolder(folder)
    if stick is not None and not stick.is_dir():
        raise BadInputError(f"--stick {stick}: no such folder; nothing was revoked")
    count = opened.revoke(name, passphrase_of(opened, passphrase_file))
    click.echo(f"{name}: {count} certificate{'s' if count > 1 else ''} revoked")
    made = folder / "broker" / "crl.pem"
    click.echo(f"now copy {made} to {FOLDER} on the broker, and restart mosquitto")
    if stick is not None:
        carried = stick / f"{opened.register.site}-crl.pem"
        try:
            write_durably(carried, made.read_bytes(), 0o644)
        except OSError as error:
            raise ScanwrightError(f"{carried}: cannot be written ({error.strerror}); copy {made}") from error
        click.echo(f"or carry the stick there, and run: scanwright keys accept {carried.name}")


@keys.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--broker",
    "folder",
    type=click.Path(path_type=Path),
    default=FOLDER,
    show_default=True,
    help="The broker's folder.",
)
def accept(file: Path, folder: Path) -> None:
    """On the broker: take a revocation list that came by stick into use.

    \b
    Example:
      scanwright keys accept /media/stick/clinic-east-crl.pem

    Only a list that the site's authority signed is taken, and none that is older than the one in use. Restart
    mosquitto afterwards: open connections of a revoked cart end only then.
    """
    from edge.keys.authority import check_revocations

    installed = folder / "crl.pem"
    try:
        new, ca = file.read_bytes(), (folder / "ca.pem").read_bytes()
        before = installed.read_bytes() if installed.exists() else None
    except OSError as error:
        raise BadInputError(f"{error.filename}: cannot be read ({error.strerror})") from error
    try:
        count = check_revocations(new, before, ca)
    except BadInputError as error:
        raise BadInputError(f"{file}: {error}") from error
    if count is None:
        click.echo(f"{installed}: has this list already")
        return
    try:
        write_durably(installed, new, 0o644)
    except OSError as error:
        raise ScanwrightError(f"{installed}: cannot be written ({error.strerror})") from error
    click.echo(f"{installed}: {count} certificate{'' if count == 1 else 's'} revoked; now restart mosquitto")


@keys.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def show(folder: Path) -> None:
    """List who holds a certificate, until when, and what was revoked.

    \b
    Example:
      scanwright keys show keys
    """
    from rich.console import Console
    from rich.table import Table

    from edge.keys.folder import KeyFolder

    opened = KeyFolder(folder)
    now = datetime.now(timezone.utc)
    table = Table(title=f"site {opened.register.site}", title_justify="left")
    for heading in ("holder", "issued", "valid until", "state"):
        table.add_column(heading)
    for entry in opened.register.issued:
        left = (entry.expires - now).days
        state = f"{left} days left" if left >= 0 else "expired"
        if entry.revoked:
            state = f"revoked {entry.revoked:%Y-%m-%d}"
        table.add_row(entry.name, f"{entry.issued:%Y-%m-%d}", f"{entry.expires:%Y-%m-%d}", state)
    Console(file=sys.stdout).print(table)


def passphrase_of(folder: KeyFolder, file: Path | None) -> bytes | None:
    """The passphrase of a folder's authority, by file, environment or terminal; None if it has none.

    Raises:
        BadInputError: the file cannot be read, or its first line is empty.
    """
    if not folder.encrypted():
        return None
    return given_passphrase(file, PASSPHRASE, "Passphrase of the authority's key")
