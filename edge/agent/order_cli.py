"""``scanwright agent command``: how headquarters says it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge.errors import BadInputError, ScanwrightError
from edge.mqtt.options import broker_options, given_broker
from edge.schema import is_name

__all__ = ["command"]


@click.command("command")
@click.argument("cart", metavar="SITE/CART")
@click.argument("name")
@click.argument("arguments", metavar="[KEY=VALUE]...", nargs=-1)
@broker_options
@click.option(
    "--wait",
    type=click.FloatRange(1),
    default=30.0,
    show_default=True,
    help="Seconds to wait for an answer.",
)
def command(
    cart: str, name: str, arguments: tuple[str, ...], wait: float, url: str, **options: Path | str | None
) -> None:
    """From headquarters: give a cart a command over its broker, and print its answer.

    \b
    Example:
      scanwright agent command clinic-east/cart-07 configure overlays=positive health_s=30

    Values are JSON where they can be (30, true, null), else text. The exit code is 1 if the cart refuses or
    does not answer in time; it may still take the command when it is back.
    """
    site, slash, device = cart.partition("/")
    if not slash or not is_name(site) or not is_name(device):
        raise BadInputError(f"{cart}: give SITE/CART, such as clinic-east/cart-07")
    from edge.agent.order import order
    from edge.mqtt.topics import Topics

    broker = given_broker(url, **options)  # type: ignore[arg-type]
    response = order(broker, Topics(site, device), name, _parsed(arguments), wait)
    if not response.ok:
        raise ScanwrightError(f"{cart} refuses: {response.error}")
    click.echo(json.dumps(response.result, indent=1, ensure_ascii=False))


def _parsed(arguments: tuple[str, ...]) -> dict[str, str | int | float | bool | None]:
    given: dict[str, str | int | float | bool | None] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not key or not equals:
            raise BadInputError(f"{argument}: give KEY=VALUE")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if isinstance(value, dict | list):
            raise BadInputError(f"{argument}: a value is one number, text, true, false or null")
        given[key] = value
    return given
