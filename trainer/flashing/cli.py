"""``scanwright flash``, ``scanwright gateway`` and ``scanwright agent-package``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.errors import BadInputError

if TYPE_CHECKING:
    from edge.site import Cart, Site
    from trainer.flashing.flash import Keys

__all__ = ["agent_package", "flash", "gateway"]

_path = click.Path(path_type=Path)
_EPILOG = """\b
Examples:
  scanwright flash --site SITE.yaml --keys keys --cart cart-07 --repo repository --root root.json \\
      --bundle chest --image raspios-lite.img.xz --device /dev/sda
  scanwright flash --site SITE.yaml --keys keys --batch CARTS.csv --repo repository --root root.json \\
      --bundle chest --image raspios-lite.img.xz --out cards
  scanwright flash --site SITE.yaml --keys keys --cart cart-07 --repo repository --root root.json \\
      --bundle chest --deb packages
"""


@click.command(epilog=_EPILOG)
@click.option("--site", "site_file", metavar="SITE.yaml", required=True, type=_path, help="The site's file.")
@click.option("--keys", metavar="DIR", type=_path, help="The site's keys, of 'scanwright keys init'.")
@click.option("--cart", metavar="DEVICE", help="Which cart of the site; needed if it has several.")
@click.option(
    "--replace", metavar="DEVICE", help="As --cart, for a dead one: its certificates are revoked first."
)
@click.option("--batch", metavar="CARTS.csv", type=_path, help="Many carts: a column 'device', maybe 'like'.")
@click.option("--repo", metavar="REPO", type=_path, help="The release repository, of 'scanwright publish'.")
@click.option("--root", metavar="FILE", type=_path, help="With --repo: root.json, of 'keys release init'.")
@click.option("--bundle", "bundles", multiple=True, required=True, help="Its name there; several: again.")
@click.option("--allow-unsigned", is_flag=True, help="In place of --repo: bundles are files nobody signed.")
@click.option("--target", help="Refuse carts that are not of this target.")
@click.option("--image", type=_path, help="The vendor's card image, also as .xz or .gz.")
@click.option("--out", type=_path, help="With --image: file to write; with --batch a folder.")
@click.option("--device", type=_path, help="With --image: card to write, as /dev/sda. It is erased.")
@click.option(
    "--deb", metavar="DIR", type=_path, help="Write packages to install with dpkg, instead of a card."
)
@click.option("--release", help="With --deb: the system's release.  [default: the target's first]")
@click.option("--wheels", metavar="DIR", type=_path, help="Take Python wheels from here, with no network.")
@click.option("--writable-root", is_flag=True, help="Leave the card's root writable, for development.")
@click.option("--any-disk", is_flag=True, help="With --device: also a disk that is not removable.")
@click.option("--yes", is_flag=True, help="With --device: do not ask before erasing.")
@click.option("--passphrase-file", type=_path, help="First line: the passphrase of the authority's key.")
def flash(
    site_file: Path,
    keys: Path | None,
    cart: str | None,
    replace: str | None,
    batch: Path | None,
    repo: Path | None,
    root: Path | None,
    bundles: tuple[str, ...],
    allow_unsigned: bool,
    target: str | None,
    image: Path | None,
    out: Path | None,
    device: Path | None,
    deb: Path | None,
    release: str | None,
    wheels: Path | None,
    writable_root: bool,
    any_disk: bool,
    yes: bool,
    passphrase_file: Path | None,
) -> None:
    """Make a cart's card, or packages for a machine that runs already, from SITE.yaml.

    The cart needs no network to install them. It comes up with its own name, keys, network, bundles and the
    agent. Packages and images hold the cart's private key: guard them as the cart.
    """
    from edge.keys.cli import passphrase_of
    from edge.keys.folder import KeyFolder
    from edge.schema import read
    from edge.site import Site
    from trainer.flashing.flash import Bundles, Keys
    from trainer.flashing.making import Making

    if (image is None) == (deb is None):
        raise click.UsageError("give --image with --out or --device, or --deb")
    if image is not None and (out is None) == (device is None):
        raise click.UsageError("--image: give one of --out and --device")
    if sum(given is not None for given in (cart, replace, batch)) > 1:
        raise click.UsageError("give one of --cart, --replace and --batch")
    if batch is not None and device is not None:
        raise click.UsageError("--batch writes images: give --out, then write them one by one")
    if (repo is None) != (root is None):
        raise click.UsageError("--repo and --root go together")
    if (repo is None) != allow_unsigned:
        raise click.UsageError(
            f"--bundle {bundles[0]}: give --repo, where it is signed; or --allow-unsigned, for development:"
            " every screen says so"
        )
    site = read(site_file, Site)
    opened = None
    if keys is not None:
        folder = KeyFolder(keys)
        folder.check(site)
        opened = Keys(folder, passphrase_of(folder, passphrase_file))
        folder.check_passphrase(opened.passphrase)
    carts, site = _carts(site, cart or replace, batch)
    for one in carts:
        if target is not None and one.target != target:
            raise BadInputError(f"{site_file}: cart '{one.device}' is a {one.target}, not a {target}")
    if replace is not None:
        _revoke(opened, replace)
    if repo is not None and root is not None:
        content = Bundles(names=bundles, repository=repo, root=root)
    else:
        content = Bundles(files=tuple(map(Path, bundles)))
    making = Making(site, site_file.parent, opened, content, wheels, not writable_root)
    if deb is not None:
        for one in carts:
            making.packages(one, release, deb / one.device if batch else deb)
    elif image is not None and out is not None:
        making.images(
            carts, image, {one.device: out / f"{one.device}.img" if batch else out for one in carts}
        )
    elif image is not None and device is not None:
        making.card(carts[0], image, device, any_disk, yes)


def _carts(site: Site, name: str | None, batch: Path | None) -> tuple[tuple[Cart, ...], Site]:
    from trainer.flashing.flash import read_batch

    if batch is not None:
        site = read_batch(batch, site)
        return site.carts, site
    if name is not None:
        return (site.cart(name),), site
    if len(site.carts) > 1:
        raise BadInputError(f"--cart: say which: {', '.join(one.device for one in site.carts)}")
    return site.carts, site


def _revoke(keys: Keys | None, device: str) -> None:
    if keys is None:
        raise BadInputError("--replace: give --keys; the dead cart's certificates are revoked")
    if not keys.folder.valid(device):
        click.echo(f"{device}: has no valid certificate to revoke", err=True)
        return
    count = keys.folder.revoke(device, keys.passphrase)
    made = keys.folder.path / "broker" / "crl.pem"
    click.echo(f"{device}: {count} revoked; copy {made} to the broker and restart it")


@click.command()
@click.argument("site_file", metavar="SITE.yaml", type=_path)
@click.option("--keys", metavar="DIR", required=True, type=_path, help="The site's keys.")
@click.option("--headquarters", metavar="DIR", type=_path, help="Certificate for the bridge, from there.")
@click.option("--out", metavar="DIR", required=True, type=_path, help="Folder to write.")
def gateway(site_file: Path, keys: Path, headquarters: Path | None, out: Path) -> None:
    """Write what runs a site's broker: a compose file, and mosquitto's configuration, lists and keys.

    \b
    Example:
      scanwright gateway SITE.yaml --keys keys --out gateway
    """
    from edge.keys.folder import KeyFolder
    from edge.schema import read
    from edge.site import Site
    from trainer.flashing.gateway import write_gateway

    write_gateway(read(site_file, Site), KeyFolder(keys), headquarters, out)
    click.echo(f"{out}: copy it to the gateway, and there: docker compose up --detach")


@click.command("agent-package")
@click.option("--target", "name", required=True, help="The board; 'scanwright targets' lists them.")
@click.option("--release", help="The system's release.  [default: the target's first]")
@click.option("--wheels", metavar="DIR", type=_path, help="Take Python wheels from here, with no network.")
@click.option("--out", metavar="DIR", required=True, type=_path, help="Folder to write.")
def agent_package(name: str, release: str | None, wheels: Path | None, out: Path) -> None:
    """Make this version of the agent a file that 'scanwright publish' signs and carts update to.

    \b
    Example:
      scanwright agent-package --target raspberry-pi-5 --out dist
    """
    from edge.bundle.target import target
    from trainer.flashing.agent_release import agent_release
    from trainer.flashing.flash import wheels_for
    from trainer.progress import Reporter

    board = target(name)
    system = board.release(release)
    with Reporter().console.status("packing the agent"):
        path = agent_release(wheels_for(board, system, wheels), board, system, out)
    click.echo(f"{path}  {path.stat().st_size:,} bytes")
