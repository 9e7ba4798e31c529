"""A site with keys, for tests: its authority, a cart's certificate, and headquarters' pair of keys."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path

import pyrage

from edge.keys.authority import Authority, Credential

__all__ = ["SiteKeys", "site_keys"]


class SiteKeys:
    """``ca`` is the authority's; ``cart`` a cart's certificate and key; ``secret`` and ``public`` those of
    headquarters."""

    def __init__(self, site: str, device: str) -> None:
        now = datetime.now(timezone.utc).replace(microsecond=0)
        self.site, self.device = site, device
        self.ca: Credential = Authority.create(site, now, None)
        self.authority = Authority(self.ca.certificate, self.ca.key, None)
        self.cart = self.authority.issue(site, device, "client", [], now + timedelta(days=100))
        identity = pyrage.x25519.Identity.generate()
        self.secret, self.public = str(identity), str(identity.to_public())

    def revocations(self, *serials: int, previous: bytes | None = None) -> bytes:
        """A revocation list."""
        return self.authority.revocations(serials, datetime.now(timezone.utc), previous)

    def write(self, folder: Path) -> Path:
        """All of it as files: ca.pem, certificate.pem, key.pem, hq.pub and hq.key."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ca.pem").write_bytes(self.ca.certificate)
        (folder / "certificate.pem").write_bytes(self.cart.certificate)
        (folder / "key.pem").write_bytes(self.cart.key)
        (folder / "hq.pub").write_text(self.public + "\n")
        (folder / "hq.key").write_text(self.secret + "\n")
        return folder


@cache
def site_keys(site: str = "clinic", device: str = "cart-1") -> SiteKeys:
    """The same keys when asked again."""
    return SiteKeys(site, device)
