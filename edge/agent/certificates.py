"""The device's certificates for the broker: since when and until when they hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from edge.agent.config import Tls
from edge.errors import BadInputError

__all__ = ["NOTICE_DAYS", "Validity", "due", "validity"]

NOTICE_DAYS = (60, 30, 14, 7, 0)
"""Days before the end at which it is told."""


@dataclass(frozen=True)
class Validity:
    """``since`` when the authority holds, and ``until`` when it or the own certificate ends."""

    since: datetime
    until: datetime

    def days(self, now: datetime) -> float:
        """Days left, negative once it has ended."""
        return (self.until - now).total_seconds() / 86400


def validity(tls: Tls) -> Validity:
    """Of the configured files, as they are now.

    Raises:
        BadInputError: one cannot be read or is no certificate.
    """
    from cryptography import x509

    found = []
    for path in (tls.ca, tls.certificate):
        if path is not None:
            try:
                found.append(x509.load_pem_x509_certificate(path.read_bytes()))
            except (OSError, ValueError) as error:
                raise BadInputError(f"mqtt.tls: {path} is no certificate that can be read") from error
    return Validity(since=found[0].not_valid_before_utc, until=min(one.not_valid_after_utc for one in found))


def due(days: float, told: int | None) -> int | None:
    """The notice that is due when so many days are left and ``told`` was the last; None when none is."""
    passed = [notice for notice in NOTICE_DAYS if days <= notice]
    return passed[-1] if passed and (told is None or passed[-1] < told) else None
