"""TLS to the broker: 1.2 at least, always verified, and against a floor below the clock.

A device without a clock battery may believe that it is years ago. Then OpenSSL, which asks the system clock,
would take a certificate that has long expired; so the broker's certificate must also outlast the floor, the
latest time that the device knows has passed. A clock so far behind that the broker's certificate is not valid
yet is told as that. Nothing is switched off for either.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

__all__ = ["tls_context"]

_NOT_YET_VALID = 9  # X509_V_ERR_CERT_NOT_YET_VALID


def tls_context(
    ca: Path, certificate: Path | None, key: Path | None, floor: Callable[[], datetime]
) -> ssl.SSLContext:
    """A client's context; with certificate and key the TLS is mutual. ``floor`` is asked at each handshake.

    Raises:
        OSError: a file is missing or is not one.
    """

    class Checked(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            try:
                super().do_handshake(block)
            except ssl.SSLCertVerificationError as error:
                if error.verify_code == _NOT_YET_VALID:
                    now = datetime.now(timezone.utc)
                    raise ssl.SSLError(
                        f"the broker's certificate is not valid yet by this device's clock ({now:%Y-%m-%d});"
                        " the clock is behind, set it"
                    ) from error
                raise
            _outlasts(self.getpeercert(), floor())

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = Checked
    context.load_verify_locations(ca)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def _outlasts(certificate: dict[str, Any] | None, floor: datetime) -> None:
    if not certificate:
        raise ssl.SSLError("the broker showed no certificate")
    end = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), timezone.utc)
    if end < floor:
        raise ssl.SSLError(
            f"the broker's certificate ended on {end:%Y-%m-%d}, and it is {floor:%Y-%m-%d} at least"
        )
