"""From SITE.yaml and bundles to what goes on a cart: its packages, with its keys and its Wi-Fi."""

from __future__ import annotations

import csv
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.archive import open_bundle
from edge.bundle.target import Release, Target, target
from edge.errors import BadInputError
from edge.files import write_durably
from edge.keys.folder import KeyFolder
from edge.schema import is_name
from edge.site import Cart, Site
from edge.update.parcel import check_recipient
from trainer.flashing.cart import BUNDLES, CONFIG, HQ_KEY, Entry, cart_files
from trainer.flashing.deb import ARCHITECTURES, agent_package, cart_package
from trainer.flashing.releases import carried
from trainer.flashing.wheels import check_wheels, fetch

__all__ = ["Bundles", "Keys", "agent_for", "check_bundles", "packages_of", "read_batch", "wheels_for"]

_CERTIFICATE_DAYS = 825


@dataclass(frozen=True)
class Bundles:
    """What carts are to run: ``files`` that nobody signed, or ``names`` in a ``repository`` that ``root``
    vouches for."""

    files: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()
    repository: Path = Path()
    root: Path = Path()

    def entries(self, site: Site, cart: Cart) -> dict[str, Entry]:
        """The files on the cart.

        Raises:
            BadInputError: a bundle is damaged, not for this cart, or not vouched for.
        """
        check_bundles(self.files, target(cart.target))
        made = {f"{BUNDLES}/{path.name}": Entry(path.read_bytes()) for path in self.files}
        if self.names:
            made |= carried(self.repository, self.root, site, cart, self.names)
        return made


@dataclass(frozen=True)
class Keys:
    """The site's keys, opened, with the passphrase of its authority."""

    folder: KeyFolder
    passphrase: bytes | None


def check_bundles(bundles: Sequence[Path], board: Target) -> None:
    """Refuse bundles that a cart could not run.

    Raises:
        BadInputError: one is damaged, or made for another target; or two have one name.
    """
    for path in bundles:
        made_for = open_bundle(path).manifest.target
        if made_for != board.name:
            raise BadInputError(
                f"{path}: is made for {made_for}, but the cart is a {board.name}; package it for that"
            )
    names = [path.name for path in bundles]
    if len(set(names)) < len(names):
        raise BadInputError("--bundle: two bundles have the same file name")


def read_batch(path: Path, site: Site) -> Site:
    """The site with the carts of a CSV in place of its own: columns ``device`` and, optionally, ``like``.

    A cart of SITE.yaml is taken from there; another is made ``like`` one of those, by default the first.

    Raises:
        BadInputError: the file cannot be read, a column is unknown or a name is no name, or twice there.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"{path}: cannot be read as CSV") from error
    if not rows or "device" not in rows[0]:
        raise BadInputError(f"{path}: give a first line 'device' and under it one name a line")
    if unknown := sorted(str(key) for key in rows[0].keys() - {"device", "like", None}):
        raise BadInputError(f"{path}: unknown column '{unknown[0]}'; there are 'device' and 'like'")
    carts: dict[str, Cart] = {}
    known = {cart.device: cart for cart in site.carts}
    for number, row in enumerate(rows, 2):
        name, like = (row["device"] or "").strip(), (row.get("like") or "").strip()
        if None in row:
            raise BadInputError(f"{path}: line {number}: has more cells than the first line has columns")
        if not is_name(name):
            raise BadInputError(f"{path}: line {number}: '{name}' is no name: a-z, 0-9 and inner hyphens")
        if name in carts:
            raise BadInputError(f"{path}: line {number}: '{name}' is there twice; one card has one name")
        pattern = site.cart(like) if like else known.get(name, site.carts[0])
        carts[name] = pattern.model_copy(update={"device": name})
    return site.model_copy(update={"carts": tuple(carts.values())})


def wheels_for(board: Target, release: Release, given: Path | None) -> Path:
    """The folder of wheels for a release: the one given, or one that is fetched once and kept.

    Raises:
        BadInputError: a given wheel does not fit.
        ScanwrightError: they cannot be had.
    """
    wheels = given or _cache() / "wheels" / f"{release.name}-{board.architecture}"
    if given is None and not wheels.is_dir():
        wheels.parent.mkdir(parents=True, exist_ok=True)
        fetch(board, release, wheels)
    check_wheels(wheels, board, release)
    return wheels


def agent_for(board: Target, release: Release, wheels: Path | None) -> Path:
    """The agent's package for a release, made once for the same wheels and the same scanwright.

    Raises:
        BadInputError: a given wheel does not fit.
        ScanwrightError: wheels cannot be had, or the package cannot be made.
    """
    wheels = wheels_for(board, release, wheels)
    state = hashlib.sha256(f"{release!r} {ARCHITECTURES[board.architecture]}".encode())
    for path in [*sorted(wheels.glob("*.whl")), *_own_files()]:
        state.update(f"\0{path.name}\0{path.stat().st_size}\0".encode())
        state.update(b"" if path.suffix == ".whl" else path.read_bytes())
    folder = _cache() / "packages" / state.hexdigest()[:24]
    for made in folder.glob("*.deb"):
        return made
    folder.mkdir(parents=True, exist_ok=True)
    return agent_package(wheels, board, release, folder)


def packages_of(
    site: Site, cart: Cart, bundles: Bundles, keys: Keys | None, base: Path, agent: Path, out: Path
) -> tuple[list[Path], str | None]:
    """Both packages of a cart, in the folder ``out``; and the passphrase of its own Wi-Fi if it has one.

    ``base`` is the folder of SITE.yaml. A cart without a valid certificate is given one.

    Raises:
        BadInputError: the site does not say enough, or asks for keys that are not given.
        ScanwrightError: a package cannot be made.
    """
    carried_along = bundles.entries(site, cart)
    if site.broker.tls and keys is None:
        raise BadInputError("broker.tls is true: give --keys, the folder that 'scanwright keys init' made")
    password = _wifi_password(cart, keys, base)
    files = [path.name for path in bundles.files]
    entries = cart_files(site, cart, target(cart.target), files, bundles.names, password) | carried_along
    if site.broker.tls and keys is not None:
        entries |= _credentials(site, cart, keys)
    if site.courier:
        entries[HQ_KEY] = _headquarters(base / site.courier.hq_key)
    made = cart_package(entries, cart.network.access_point, cart.kiosk, out)
    copied = out / agent.name
    if not copied.exists() or not copied.samefile(agent):
        shutil.copyfile(agent, copied)
    return [copied, made], password if cart.network.access_point else None


def _credentials(site: Site, cart: Cart, keys: Keys) -> dict[str, Entry]:
    folder = keys.folder.holder(cart.device)
    if not keys.folder.valid(cart.device) or not (folder / "certificate.pem").exists():
        keys.folder.issue(site, cart.device, _CERTIFICATE_DAYS, keys.passphrase)
    modes = {"ca.pem": 0o644, "certificate.pem": 0o644, "key.pem": 0o600}
    return {f"{CONFIG}/{name}": Entry((folder / name).read_bytes(), mode) for name, mode in modes.items()}


def _headquarters(path: Path) -> Entry:
    try:
        return Entry(f"{check_recipient(path.read_text('ascii'))}\n".encode())
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: headquarters' key cannot be read; it is named by courier") from error
    except BadInputError as error:
        raise BadInputError(f"{path}: {error}") from error


def _wifi_password(cart: Cart, keys: Keys | None, base: Path) -> str | None:
    if cart.network.wifi:
        path = base / cart.network.wifi.password_file
        try:
            return path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"{path}: the Wi-Fi passphrase cannot be read") from error
    if not cart.network.access_point:
        return None
    if keys is None:
        raise BadInputError("access_point: give --keys; the passphrase of the cart's Wi-Fi is kept there")
    # Kept, so that a card made again opens to the label that is on the cart.
    kept = keys.folder.holder(cart.device) / "wifi"
    if not kept.exists():
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        letters = "abcdefghjkmnpqrstuvwxyz23456789"
        write_durably(kept, "".join(secrets.choice(letters) for _ in range(16)).encode())
    return kept.read_text("ascii")


def _own_files() -> Iterator[Path]:
    import edge

    base = Path(edge.__file__).parents[1]
    for name in ("edge", "trainer", "firmware_configs"):
        for path in sorted((base / name).rglob("*")):
            if path.is_file() and not {"__pycache__", "node_modules", "static"} & set(path.parts):
                yield path


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "scanwright"
