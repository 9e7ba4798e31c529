"""``scanwright courier``: updates to carts that no network reaches, and their findings back, by stick."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from edge.errors import BadInputError, ScanwrightError, shown
from edge.files import write_durably
from edge.monitor.cli import opened, store_option
from edge.output import json_option, write_json

__all__ = ["courier"]

SECRET, PUBLIC = "hq.key", "hq.pub"
_file = click.Path(path_type=Path)
_stick = click.argument("stick", metavar="STICK", type=_file)
_receipts = click.option(
    "--receipts",
    metavar="DIR",
    type=_file,
    required=True,
    help="Where 'import' keeps receipts and 'export' takes them from.",
)


@click.group()
def courier() -> None:
    """Carry updates to carts that no network reaches, and what they found back, by USB stick.

    \b
    Examples:
      scanwright courier keys --out courier-keys
      scanwright courier export /media/stick --hq-key courier-keys/hq.pub --receipts receipts \\
          --repo repository --carts clinic-east/cart-07,clinic-east/cart-08
      scanwright courier import /media/stick --key courier-keys/hq.key --receipts receipts \\
          --ca keys/ca.pem --store sqlite:///fleet.db

    What carts put on a stick only headquarters' key opens. Not a medical device: findings are decision
    support.
    """


@courier.command()
@click.option("--out", metavar="DIR", type=_file, required=True, help="A new folder.")
def keys(out: Path) -> None:
    """Make headquarters' pair of keys.

    \b
    Example:
      scanwright courier keys --out courier-keys

    hq.pub goes onto every cart (courier.hq_key). Guard hq.key: it opens what carts send, and without it
    nothing does; keep a copy of it elsewhere.
    """
    import pyrage

    made = pyrage.x25519.Identity.generate()
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (out / SECRET).exists():
            raise BadInputError(f"{out / SECRET}: is there already; it is not replaced, carts seal to it")
        write_durably(out / SECRET, f"{made}\n".encode())
        write_durably(out / PUBLIC, f"{made.to_public()}\n".encode(), 0o644)
    except OSError as error:
        raise BadInputError(f"{out}: cannot be written ({error.strerror})") from error
    click.echo(f"{out / PUBLIC}: for every cart, and for 'courier export'")
    click.echo(f"{out / SECRET}: for 'courier import'; guard it, and keep a copy elsewhere")


@courier.command()
@_stick
@click.option("--hq-key", metavar="FILE", type=_file, required=True, help="Headquarters' public key, hq.pub.")
@click.option("--carts", required=True, help="SITE/DEVICE, several separated by commas.")
@_receipts
@click.option("--repo", "repository", metavar="REPO", type=_file, help="The release repository, for updates.")
@click.option(
    "--crl", "revoked", type=_file, multiple=True, help="A site's revocation list; may be repeated."
)
def export(
    stick: Path, hq_key: Path, carts: str, receipts: Path, repository: Path | None, revoked: tuple[Path, ...]
) -> None:
    """Prepare STICK, a mounted folder, for the carts that are named.

    \b
    Example:
      scanwright courier export /media/stick --hq-key courier-keys/hq.pub --receipts receipts \\
          --repo repository --crl keys/crl.pem --carts clinic-east/cart-07

    What carts have put on it stays. A cart takes only what it can prove: signed releases, signed lists, and
    receipts of who opened its parcel.
    """
    from edge.monitor.delivery import Load, deliver
    from edge.update.parcel import check_recipient

    text = _text(hq_key)
    try:
        headquarters = check_recipient(text)
    except BadInputError as error:
        raise BadInputError(f"--hq-key {hq_key}: {error}") from error
    named = list(dict.fromkeys(cart.strip() for cart in carts.split(",") if cart.strip()))
    if not named:
        raise BadInputError(f"--carts '{carts}': names no cart; give SITE/DEVICE, some separated by commas")
    load = Load(named, repository, revoked, receipts)
    delivery = deliver(stick, headquarters, load, datetime.now(timezone.utc))
    size = sum(file.size for file in delivery.files.values())
    click.echo(f"{stick}: {len(delivery.files)} files, {size:,} bytes for {len(named)} carts; unmount it now")


@courier.command(name="import")
@_stick
@store_option
@click.option("--key", metavar="FILE", type=_file, required=True, help="Headquarters' secret key, hq.key.")
@click.option(
    "--ca", "authorities", type=_file, multiple=True, required=True, help="A site's ca.pem; may be repeated."
)
@click.option("--crl", "revoked", type=_file, multiple=True, help="A site's crl.pem; may be repeated.")
@_receipts
@click.option("--audit", "audits", metavar="DIR", type=_file, help="Keep the carts' audit logs here, too.")
@json_option
def import_(
    stick: Path,
    store_url: str,
    key: Path,
    authorities: tuple[Path, ...],
    revoked: tuple[Path, ...],
    receipts: Path,
    audits: Path | None,
    json_file: str | None,
) -> None:
    """Take what carts put on STICK into the monitor's store, and keep receipts for the next stick.

    \b
    Example:
      scanwright courier import /media/stick --store sqlite:///fleet.db --key courier-keys/hq.key \\
          --ca keys/ca.pem --crl keys/crl.pem --receipts receipts

    Twice is once, and sticks may come in any order. Parcels stay on the stick; the carts remove those that
    have arrived. Exit code 1 if one was not taken; the others were.
    """
    import pyrage
    from cryptography import x509

    from edge.monitor.courier import Custody, import_stick

    identity = _text(key)
    try:
        pyrage.x25519.Identity.from_str(identity.strip())
    except pyrage.IdentityError as error:
        raise BadInputError(f"--key {key}: is no {SECRET} that 'scanwright courier keys' made") from error
    custody = Custody(
        identity,
        _all("--ca", authorities, x509.load_pem_x509_certificate),
        _all("--crl", revoked, x509.load_pem_x509_crl),
    )
    taken = []
    with opened(store_url) as database:
        for arrived in import_stick(stick, database, custody, receipts, audits, time.time()):
            taken.append(arrived)
            what = f"{arrived.findings} findings, {arrived.new} of them new, {arrived.events} new events"
            if arrived.refused:
                what += f"; {len(arrived.refused)} messages are none and stay on the cart"
            if arrived.expired:
                what += "; its certificate has ended, renew it"
            click.echo(
                shown(f"{arrived.cart} {arrived.name}: {arrived.problem or what}"), err=bool(json_file)
            )
    if json_file:
        write_json({"parcels": [vars(arrived) for arrived in taken]}, json_file)
    failed = sum(arrived.problem is not None for arrived in taken)
    if failed:
        raise ScanwrightError(f"{stick}: {failed} of {len(taken)} parcels were not taken, as said above")
    if not taken:
        click.echo(f"{stick}: no parcels; no cart has written to it since they were removed", err=True)


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: no key that can be read") from error


def _all(option: str, paths: Sequence[Path], check: Callable[[bytes], Any]) -> list[bytes]:
    """The contents of PEM files, each of which ``check`` reads."""
    read = []
    for path in paths:
        try:
            read.append(path.read_bytes())
            check(read[-1])
        except OSError as error:
            raise BadInputError(f"{option} {path}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise BadInputError(f"{option} {path}: is none; take it from the site's keys") from error
    return read
