"""TLS for DICOM (PS3.15 B.9, BCP 195): 1.2 at least, the other side's certificate always verified."""

from __future__ import annotations

import ssl

from edge.agent.config import Tls
from edge.errors import BadInputError

__all__ = ["client_context", "server_context"]


def server_context(tls: Tls) -> ssl.SSLContext:
    """Of an SCP: only who shows a certificate that ``ca`` signed is heard.

    Raises:
        BadInputError: a file is missing, or is not one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _loaded(context, tls)


def client_context(tls: Tls) -> ssl.SSLContext:
    """Of an SCU: the host's name must be in the certificate that it shows.

    Raises:
        BadInputError: a file is missing, or is not one.
    """
    return _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), tls)


def _loaded(context: ssl.SSLContext, tls: Tls) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(tls.ca)
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise BadInputError(
            f"tls: {tls.ca}, {tls.certificate} and {tls.key} cannot be used ({error.strerror or error})"
        ) from error
    return context
