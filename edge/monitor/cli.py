"""``scanwright monitor``: the fleet's program, who may use its page, and what leaves its store."""

from __future__ import annotations

import getpass
import logging
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.errors import BadInputError, ScanwrightError
from edge.mqtt.options import broker_options, given_broker

if TYPE_CHECKING:
    from edge.monitor.store.database import Database

__all__ = ["monitor", "opened"]

_file = click.Path(path_type=Path)
store_option = click.option(
    "--store",
    "store_url",
    default="sqlite:///monitor.db",
    show_default=True,
    help="sqlite:///PATH or postgresql://USER@HOST/DATABASE",
)


@contextmanager
def opened(store_url: str, *, receives: bool = False, create: bool = False) -> Iterator[Database]:
    """The store of a command, closed at its end. One that is not there is made only with ``create``: a
    mistyped name must not read as a fleet without findings.

    Raises:
        ScanwrightError: it cannot be used; see :class:`edge.monitor.store.database.Database`.
    """
    try:
        from edge.monitor.store.database import Database
    except ModuleNotFoundError as error:
        raise ScanwrightError(f"{error.name} is missing; pip install 'scanwright[monitor]'") from error
    database = Database(store_url, receives=receives, create=create)
    try:
        yield database
    finally:
        database.close()


@click.group(invoke_without_command=True)
@broker_options
@store_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the page is served.")
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="0: a free one.")
@click.option("--tls-cert", type=_file, help="Certificate chain of the page; needed beyond this machine.")
@click.option("--tls-key", type=_file, help="Key of --tls-cert.")
@click.option("--phone-app", type=_file, help="A NAME-app folder, to be served under /phone/.")
@click.option("--metrics-token", type=_file, help="File with what Prometheus must bear for /metrics.")
@click.option("--page/--no-page", default=True, help="Serve the page, or only receive.")
@click.option("--workers-group", help="Share the broker's messages with all monitors of this group.")
@click.option("--keep-days", type=click.FloatRange(1), default=730.0, show_default=True, help="Of findings.")
@click.pass_context
def monitor(
    context: click.Context,
    /,
    url: str,
    store_url: str,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    phone_app: Path | None,
    metrics_token: Path | None,
    page: bool,
    workers_group: str | None,
    keep_days: float,
    **options: Any,
) -> None:
    """Store what all carts say, give each cart its receipts, and show which cart needs a visit.

    \b
    Examples:
      scanwright monitor user add amina --role engineer --store sqlite:///fleet.db
      scanwright monitor --broker mqtt://127.0.0.1:1883 --store sqlite:///fleet.db
      scanwright monitor --broker mqtts://broker:8883 --ca ca.pem --certificate hq.pem --key hq.key \\
          --host 0.0.0.0 --port 8443 --tls-cert page.pem --tls-key page.key

    A cart with 'receipts: true' keeps a finding until this has it on the disk. It needs a broker that speaks
    MQTT 5. The page is at http://127.0.0.1:8090/. Not a medical device: findings are decision support.
    """
    if context.invoked_subcommand is not None:
        return
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s", force=True)
    broker = given_broker(url, **options)
    if workers_group is not None and not workers_group.isalnum():
        raise BadInputError("--workers-group: letters and digits")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    with opened(store_url, receives=workers_group is None, create=True) as database:
        from edge.monitor import rollouts
        from edge.monitor.receiver import Receiver
        from edge.monitor.repeated import Repeated
        from edge.monitor.upkeep import keep_up

        receiver = Receiver(broker, database, workers_group)
        beside: list[Any] = [
            Repeated("upkeep", lambda: keep_up(database, keep_days, time.time()), every_s=600),
            Repeated("rollouts", lambda: rollouts.step(database, time.time()), every_s=1),
        ]
        if page:
            from edge.monitor.server import PageServer

            server = PageServer(database, host, port, tls_cert, tls_key, phone_app, metrics_token)
            beside.append(server)
            click.echo(f"page: {server.url}", err=True)
        for one in beside:
            one.start()
        try:
            receiver.run(stop)
        finally:
            for one in beside:
                one.stop()
    stored, repeated, refused = receiver.stored, receiver.repeated, receiver.refused
    click.echo(f"{stored} findings stored, {repeated} came again, {refused} messages refused")


@monitor.command()
@broker_options
@click.option("--carts", "n", type=click.IntRange(1, 1000), default=40, show_default=True)
@click.option(
    "--every", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Seconds between findings."
)
@click.option("--seconds", type=click.FloatRange(0), help="End after so long; else when it is stopped.")
def simulate(url: str, n: int, every: float, seconds: float | None, **options: Any) -> None:
    """Let carts that do not exist speak to a broker, to try the page out.

    \b
    Example:
      scanwright monitor simulate --broker mqtt://127.0.0.1:1883 --carts 40

    Only for a broker of your own: what they say looks like what real carts say. Their models are called
    'chest', their images were never taken.
    """
    from edge.monitor.pretending import pretend

    broker = given_broker(url, **options)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    if seconds is not None:
        threading.Timer(seconds, stop.set).start()
    sent = pretend(broker, n, every, stop)
    click.echo(f"{n} simulated carts said {sent} things")


@monitor.group()
def user() -> None:
    """Who may use the page: viewers look, reviewers also judge findings, engineers also command carts.

    \b
    Example:
      scanwright monitor user add amina --role reviewer --store sqlite:///fleet.db
    """


@user.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(["viewer", "reviewer", "engineer"]), required=True)
@click.option("--password-file", type=_file, help="File with the password; else it is asked for.")
@store_option
def user_add(name: str, role: str, password_file: Path | None, store_url: str) -> None:
    """Add somebody, or give somebody another role and password.

    \b
    Example:
      scanwright monitor user add amina --role reviewer --store sqlite:///fleet.db
    """
    from edge.monitor.store import accounts, audit

    password = _password(password_file)
    with opened(store_url, create=True) as database:

        def write(connection: Any) -> None:
            now = time.time()
            accounts.add(connection, database, name, role, password, now)  # type: ignore[arg-type]
            said = {"name": name, "role": role}
            audit.append(connection, database, f"{getpass.getuser()} (command line)", "user_added", said, now)

        database.write(write).result()
    click.echo(f"{name} is {role} now")


@user.command("remove")
@click.argument("name")
@store_option
def user_remove(name: str, store_url: str) -> None:
    """Remove somebody, and end what is open of theirs.

    \b
    Example:
      scanwright monitor user remove amina --store sqlite:///fleet.db
    """
    from edge.monitor.store import accounts, audit

    with opened(store_url) as database:

        def write(connection: Any) -> bool:
            removed = accounts.remove(connection, database, name)
            actor = f"{getpass.getuser()} (command line)"
            audit.append(connection, database, actor, "user_removed", {"name": name}, time.time())
            return removed

        if not database.write(write).result():
            raise BadInputError(f"{name}: there is no such user")
    click.echo(f"{name} is removed")


@user.command("list")
@store_option
def user_list(store_url: str) -> None:
    """List who may use the page, and as what.

    \b
    Example:
      scanwright monitor user list --store sqlite:///fleet.db
    """
    from edge.monitor.store import accounts

    with opened(store_url) as database:
        for account in accounts.listed(database):
            click.echo(f"{account.name}  {account.role}")


@monitor.command()
@store_option
@click.option("--out", type=_file, required=True, help="Folder to write; it must not be there yet.")
def export(store_url: str, out: Path) -> None:
    """Write all that is stored as CSV files, with the findings whole as JSON lines.

    \b
    Example:
      scanwright monitor export --store sqlite:///fleet.db --out fleet-2026-06

    Not a medical device: findings are decision support.
    """
    from edge.monitor.dump import dump

    if out.exists():
        raise BadInputError(f"--out {out}: is there already; name a new folder")
    new = out.with_name(f".{out.name}.new")
    with opened(store_url) as database:
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            counts = dump(database, new)
            new.rename(out)
        except OSError as error:
            raise ScanwrightError(f"--out {out}: cannot be written ({error.strerror})") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
    click.echo(", ".join(f"{n} {name}" for name, n in counts.items()))


def _password(file: Path | None) -> str:
    if file is not None:
        try:
            return file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"--password-file {file}: cannot be read") from error
    if not sys.stdin.isatty():
        raise BadInputError("give --password-file: there is nobody here to ask for a password")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
