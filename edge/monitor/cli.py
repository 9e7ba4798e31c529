"""``scanwright monitor``: so far the receiver alone."""

from __future__ import annotations

import logging
import signal
import sqlite3
import threading
from pathlib import Path

import click

from edge.errors import ScanwrightError
from edge.mqtt.options import broker_options, given_broker

__all__ = ["monitor"]


@click.command()
@broker_options
@click.option(
    "--store", "store_url", default="sqlite:///monitor.db", show_default=True, help="Where findings are kept."
)
def monitor(url: str, store_url: str, **options: Path | str | None) -> None:
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

    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s", force=True)
    broker = given_broker(url, **options)  # type: ignore[arg-type]
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
