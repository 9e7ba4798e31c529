"""One run of ``scanwright flash``: packages, images and cards, with what it says meanwhile."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from edge.bundle.target import target
from edge.errors import BadInputError, ScanwrightError
from edge.files import sync_folder, write_durably
from edge.site import Cart, Site
from trainer.flashing.device import check_disk, extents, look_at, write_card
from trainer.flashing.flash import Bundles, Keys, agent_for, packages_of
from trainer.flashing.image import copy_image, examine, inject
from trainer.progress import Reporter

__all__ = ["Making"]


class Making:
    """What all carts of one run share."""

    def __init__(
        self,
        site: Site,
        base: Path,
        keys: Keys | None,
        bundles: Bundles,
        wheels: Path | None,
        read_only: bool,
    ) -> None:
        """``base`` is the folder of SITE.yaml."""
        self._site, self._base, self._keys = site, base, keys
        self._bundles, self._wheels, self._read_only = bundles, wheels, read_only
        self._reporter = Reporter()

    def packages(self, cart: Cart, release: str | None, out: Path) -> None:
        """Both packages into the folder ``out``."""
        board = target(cart.target)
        self._bundles.entries(self._site, cart)
        with self._reporter.console.status("packing the agent"):
            agent = agent_for(board, board.release(release), self._wheels)
            _make_folder(out)
            made, password = self._of(cart, agent, out)
        self._label(cart, password, out / f"{cart.device}-label.svg")
        for path in made:
            click.echo(f"{path}  {path.stat().st_size:,} bytes")
        click.echo(f"on {cart.device}:  dpkg --install {' '.join(path.name for path in made)}")

    def images(self, carts: Sequence[Cart], image: Path, outs: Mapping[str, Path]) -> None:
        """A card image for each cart; ``outs`` by device."""
        for cart in carts:
            out = outs[cart.device]
            _make_folder(out.parent)
            if out.exists() and out.samefile(image):
                raise BadInputError(f"--out {out}: is the vendor's image; write another file")
            part = out.with_name(f".{out.name}.part")
            try:
                self._image(cart, image, part)
                part.replace(out)
                sync_folder(out.parent)
            finally:
                part.unlink(missing_ok=True)
            click.echo(f"{out}  {cart.device}, {out.stat().st_size / 1e9:.1f} GB")

    def card(self, cart: Cart, image: Path, device: Path, any_disk: bool, yes: bool) -> None:
        """Write a cart's card; asks before it erases unless ``yes``."""
        disk = look_at(device)
        check_disk(disk, 0, any_disk)
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
            part = Path(folder) / f"{cart.device}.img"
            self._image(cart, image, part, Path(f"{cart.device}-label.svg"))
            check_disk(disk, part.stat().st_size, any_disk)
            click.echo(f"erases {disk.in_words}")
            if not yes:
                click.confirm("Erase it?", abort=True)
            total = 2 * sum(length for _, length in extents(part))
            with _bytes_bar(f"{device}: write, read back", total, self._reporter) as advance:
                digest = write_card(part, device, advance)
        click.echo(f"{device}: is {cart.device}'s card, read back as written (sha256 {digest[:16]}…)")

    def _image(self, cart: Cart, image: Path, part: Path, label: Path | None = None) -> None:
        board = target(cart.target)
        if board.card is None:
            raise BadInputError(f"cart '{cart.device}': a {board.name} has no card; use --deb")
        self._bundles.entries(self._site, cart)
        if not image.is_file():
            raise BadInputError(f"{image}: no such file; download the vendor's image first")
        with _bytes_bar(f"{cart.device}: image", image.stat().st_size, self._reporter) as advance:
            copy_image(image, part, advance)
        try:
            layout = examine(part, board)
            agent = agent_for(board, layout.release, self._wheels)
            with tempfile.TemporaryDirectory() as folder:
                made, password = self._of(cart, agent, Path(folder))
                inject(part, layout, self._site, cart, made, self._read_only)
        except ScanwrightError as error:
            # It is the vendor's image that is named, not the copy that nobody will see.
            raise type(error)(str(error).replace(str(part), str(image))) from error
        self._label(cart, password, label or part.with_name(f"{cart.device}-label.svg"))

    def _of(self, cart: Cart, agent: Path, out: Path) -> tuple[list[Path], str | None]:
        return packages_of(self._site, cart, self._bundles, self._keys, self._base, agent, out)

    def _label(self, cart: Cart, password: str | None, path: Path) -> None:
        if password is None:
            return
        from trainer.flashing.label import label

        write_durably(path, label(self._site, cart, password))
        click.echo(f"{path}: the label for {cart.device}; it shows the Wi-Fi passphrase")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"{folder}: cannot be made ({error.strerror})") from error


@contextmanager
def _bytes_bar(title: str, total: int, reporter: Reporter) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(24), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=reporter.console, disable=not reporter.console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)
