"""``scanwright demo``: the whole path on generated images, to be watched."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from edge.errors import BadInputError, ScanwrightError

if TYPE_CHECKING:
    from trainer.demo.cart import Cart
    from trainer.demo.live import Tally

__all__ = ["demo"]

_MARK = ".made-by-scanwright-demo"
_MADE = ("data", "run", "frames", "cart", "*.swb")


@click.command()
@click.option("--quick", is_flag=True, help="Do not train: use the small bundle that came with scanwright.")
@click.option("--stay", is_flag=True, help="Keep agent, broker and screen up until Ctrl-C.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="scanwright-demo",
    show_default=True,
    help="Folder for all it makes; what an earlier demo left there is replaced.",
)
def demo(quick: bool, stay: bool, out: Path) -> None:
    """Learn from generated chest images, package for a Raspberry Pi, and watch the real agent find things.

    \b
    Examples:
      scanwright demo --quick        half a minute, without TensorFlow
      scanwright demo                with training, about two minutes
      scanwright demo --quick --stay and look at the cart's screen in a browser

    Exit code 1 if the findings are not right nearly always, or if the model has an opinion on a real
    ultrasound clip, which is nothing that it learned.

    Not a medical device: findings are decision support, and these are of generated images.
    """
    from edge.mqtt.embedded import EmbeddedBroker
    from trainer.demo.build import SHIPPED, TARGET, make_bundle
    from trainer.demo.cart import Cart
    from trainer.demo.frames import write_cases
    from trainer.demo.live import run_cases

    # A service manager or a CI job that ends the demo also ends its agent.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(highlight=False)
    _prepare(out)
    if quick:
        bundle = out / SHIPPED.name
        _copy(SHIPPED, bundle)
    else:
        bundle = make_bundle(out, console)
    cases_folder, cart_folder = out / "frames", out / "cart"
    for folder in (cases_folder, cart_folder):
        folder.mkdir()
    with console.status("Generating images that the model has not seen"):
        cases = write_cases(cases_folder)
    with EmbeddedBroker() as broker, Cart(cart_folder, bundle, TARGET, broker.port) as cart:
        _introduce(console, cart, broker.port)
        tally = run_cases(cart, cases, console)
        _conclude(console, cart, tally, bundle, None if quick else out / "run" / "report.html")
        if stay:
            _wait(console, cart)
    if not tally.convincing:
        raise ScanwrightError("the demo is not convincing; see the table above")


def _prepare(out: Path) -> None:
    """Make the folder, or remove what an earlier demo made in it; any other has to be empty."""
    from edge.agent.state import running_agent

    try:
        if (out / _MARK).exists():
            if running_agent(out / "cart" / "state"):
                raise BadInputError(f"{out}: a demo is running there; end it, or name another with --out")
            for path in [path for pattern in _MADE for path in out.glob(pattern)]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise BadInputError(f"{out}: holds something that is not from a demo; name another with --out")
        out.mkdir(parents=True, exist_ok=True)
        (out / _MARK).touch()
    except OSError as error:
        raise BadInputError(f"{out}: cannot be used ({error.strerror}); name another with --out") from error


def _copy(shipped: Path, bundle: Path) -> None:
    if not shipped.exists():
        raise ScanwrightError(
            f"{shipped}: is missing, scanwright is not completely installed; "
            "make it with 'python -m trainer.demo.build', or leave out --quick"
        )
    shutil.copyfile(shipped, bundle)


def _introduce(console: Console, cart: Cart, port: int) -> None:
    assert cart.birth
    bundle = cart.birth.bundles[0]
    console.print(
        f"\n[bold]The agent is online[/] after {cart.started_s:.1f} s: {bundle.name} {bundle.version} "
        f"on {cart.birth.interpreter}, broker on port {port}",
        soft_wrap=True,
    )
    if cart.tensorflow_files() == 0:
        console.print("No TensorFlow is loaded in it.")
    console.print(f"[bold]The cart's screen:[/] {cart.url}\n")


def _conclude(console: Console, cart: Cart, tally: Tally, bundle: Path, report: Path | None) -> None:
    clip = tally.clip
    refused = len(clip.findings) - len(clip.answered)
    reasons = sorted({reason.value for finding in clip.findings for reason in finding.reasons})
    console.print(
        f"\n[bold]Phantoms[/]    {tally.right} right of {tally.answered} answered, "
        f"{tally.phantoms - tally.answered} of {tally.phantoms} withheld"
    )
    console.print(
        f"[bold]Foreign clip[/] {refused} of {len(clip.findings)} frames refused ({', '.join(reasons)})"
    )
    console.print(
        f"[bold]From drop to finding[/] {tally.seconds:.2f} s (median), the file's settling included"
    )
    if cart.health:
        console.print(f"[bold]Agent's memory[/] {cart.health.memory_mb:.0f} MB")
    if report:
        console.print(f"[bold]Report[/]  {report}", soft_wrap=True)
    console.print(f"[bold]Bundle[/]  {bundle}", soft_wrap=True)
    console.print(f"[bold]Agent[/]   {cart.config_path} and {cart.log}", soft_wrap=True)
    console.print("\nNot a medical device: findings are decision support, and these are of generated images.")


def _wait(console: Console, cart: Cart) -> None:
    console.print(f"\nThe screen stays at {cart.url}; drop images into {cart.drop}. Ctrl-C ends it.")
    with suppress(KeyboardInterrupt):
        while True:
            cart.check()
            time.sleep(0.5)
