"""``scanwright monitor``: so far the receiver alone."""

from __future__ import annotations

import logging
import signal
import sqlite3
import threading
from pathlib import Path
from urllib.parse import urlsplit

import click

from edge.errors import BadInputError, ScanwrightError

__all__ = ["monitor"]

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_file = click.Path(path_type=Path)


@click.command()
@click.option(
    "--broker",
    "url",
    default="mqtt://127.0.0.1:1883",
    show_default=True,
    help="mqtt:// or mqtts://HOST[:PORT]",
)
@click.option(
    "--store", "store_url", default="sqlite:///monitor.db", show_default=True, help="Where findings are kept."
)
@click.option("--username", help="At the broker.")
@click.option("--password-file", type=_file, help="File with the password at the broker.")
@click.option("--ca", type=_file, help="Certificate authority of the broker; for mqtts.")
@click.option("--certificate", type=_file, help="Own certificate, for mutual TLS.")
@click.option("--key", type=_file, help="Key of the certificate.")
def monitor(
    url: str,
    store_url: str,
    username: str | None,
    password_file: Path | None,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> None:
    """Store the findings of all carts and give each cart its receipts, until stopped.

    \b
    Example:
      scanwright monitor --broker mqtt://127.0.0.1:1883 --store sqlite:///findings.db

    A cart with 'receipts: true' keeps a finding until this has it on the disk. This is the receiver alone:
    it has no page to look at. It needs a broker that speaks MQTT 5. Not a medical device: findings are
    decision support.
    """
    from edge.monitor.receiver import Receiver
    from edge.monitor.store import Store, store_path
    from edge.mqtt.broker import Broker

    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s", force=True)
    host, port, secure = _address(url)
    if secure != (ca is not None):
        raise BadInputError("--broker mqtts:// and --ca go together")
    if (certificate is None) != (key is None) or (certificate and not secure):
        raise BadInputError("--certificate and --key go together, with --ca")
    broker = Broker(
        host,
        port,
        username=username,
        password=_password(password_file) if password_file else None,
        ca=ca,
        certificate=certificate,
        key=key,
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    store = Store(store_path(store_url))
    try:
        receiver = Receiver(broker, store)
        receiver.run(stop)
    except sqlite3.DatabaseError as error:
        raise ScanwrightError(f"--store {store_url}: the store has failed ({error})") from error
    finally:
        store.close()
    stored, repeated, refused = receiver.stored, receiver.repeated, receiver.refused
    click.echo(f"{stored} findings stored, {repeated} came again, {refused} messages refused")


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
