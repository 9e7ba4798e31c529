"""The broker as commands of headquarters are told of it: options, and what they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from edge.errors import BadInputError

if TYPE_CHECKING:
    from edge.mqtt.broker import Broker

__all__ = ["broker_options", "given_broker"]

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_file = click.Path(path_type=Path)
_OPTIONS = (
    click.option(
        "--broker",
        "url",
        default="mqtt://127.0.0.1:1883",
        show_default=True,
        help="mqtt:// or mqtts://HOST[:PORT]",
    ),
    click.option("--username", help="At the broker."),
    click.option("--password-file", type=_file, help="File with the password at the broker."),
    click.option("--ca", type=_file, help="Certificate authority of the broker; for mqtts."),
    click.option("--certificate", type=_file, help="Own certificate, for mutual TLS."),
    click.option("--key", type=_file, help="Key of the certificate."),
)
_Command = TypeVar("_Command", bound=Callable[..., Any])


def broker_options(command: _Command) -> _Command:
    """``--broker`` and who asks, as arguments of :func:`given_broker`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given_broker(
    url: str,
    username: str | None,
    password_file: Path | None,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> Broker:
    """The broker that the options name.

    Raises:
        BadInputError: they do not go together, or the password cannot be read.
    """
    host, port, secure = _address(url)
    from edge.mqtt.broker import Broker

    if secure != (ca is not None):
        raise BadInputError("--broker mqtts:// and --ca go together")
    if (certificate is None) != (key is None) or (certificate and not secure):
        raise BadInputError("--certificate and --key go together, with --ca")
    password = _password(password_file) if password_file else None
    return Broker(host, port, username=username, password=password, ca=ca, certificate=certificate, key=key)


def _address(url: str) -> tuple[str, int, bool]:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        if parts.hostname is None or "@" in parts.netloc or parts.path or parts.query or parts.fragment:
            raise ValueError
    except (KeyError, ValueError) as error:
        raise BadInputError("--broker: give mqtt://HOST[:PORT] or mqtts://HOST[:PORT]") from error
    return parts.hostname, port, parts.scheme == "mqtts"


def _password(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"--password-file {path}: cannot be read") from error
