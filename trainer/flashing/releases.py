"""What of the release repository goes on a cart: believed at the desk as the cart will believe it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from edge.errors import BadInputError
from edge.site import Cart, Site
from edge.update.client import Trust
from edge.update.release import Device, RefusedError, choose
from trainer.flashing.cart import REPOSITORY, ROOT, Entry

__all__ = ["carried"]


def carried(repository: Path, root: Path, site: Site, cart: Cart, names: Sequence[str]) -> dict[str, Entry]:
    """The repository's metadata, this cart's newest bundles of these names and the root, by path.

    Raises:
        BadInputError: the repository is not what ``root`` vouches for, has run out, or has no such bundle for
            this cart.
    """
    if not (repository / "metadata").is_dir():
        raise BadInputError(f"--repo {repository}: no release repository; 'scanwright publish' makes one")
    device = Device(site=site.site, device=cart.device, target=cart.target)
    files = {f"metadata/{path.name}": path for path in sorted((repository / "metadata").glob("*.json"))}
    try:
        with tempfile.TemporaryDirectory() as folder:
            offered = Trust(Path(folder), root).repository(str(repository))
            releases = list(offered.releases())
            for name in names:
                release = choose(releases, device, name, None)
                offered.download(release, Path(folder) / "checked")
                kept = f"targets/{release.sha256}.{release.path}"
                files[kept] = repository / kept
    except RefusedError as error:
        raise BadInputError(f"--repo {repository}: {error}") from error
    return {f"{REPOSITORY}/{name}": Entry(path.read_bytes()) for name, path in files.items()} | {
        ROOT: Entry(root.read_bytes())
    }
