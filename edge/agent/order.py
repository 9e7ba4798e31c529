"""``scanwright agent command``: a command to a cart over its broker, and the cart's answer."""

from __future__ import annotations

import json
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.agent.commands import Scalar
from edge.errors import BadInputError, ScanwrightError
from edge.mqtt.broker import Broker
from edge.mqtt.options import broker_options, given_broker
from edge.mqtt.payloads import Command, Response
from edge.mqtt.topics import Topics
from edge.schema import is_name

__all__ = ["command", "order"]

_CONNECT_S = 10.0


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
    broker = given_broker(url, **options)  # type: ignore[arg-type]
    response = order(broker, Topics(site, device), name, _parsed(arguments), wait)
    if not response.ok:
        raise ScanwrightError(f"{cart} refuses: {response.error}")
    click.echo(json.dumps(response.result, indent=1, ensure_ascii=False))


def order(broker: Broker, topics: Topics, name: str, arguments: dict[str, Scalar], wait_s: float) -> Response:
    """Publish a command and wait for its answer.

    Raises:
        BadInputError: a TLS file is missing or is not one.
        ScanwrightError: the broker or the cart does not answer in time.
    """
    correlation = uuid.uuid4().hex
    said = Command(
        correlation_id=correlation,
        issued_at=datetime.now(timezone.utc),
        nonce=uuid.uuid4().hex,
        arguments=arguments,
    )
    answers: list[Response] = []
    ready: list[bool] = []

    def heard(_client: Client, _data: Any, message: MQTTMessage) -> None:
        try:
            answer = Response.model_validate_json(message.payload)
        except ValueError:
            return
        if answer.correlation_id == correlation:
            answers.append(answer)

    client = Client(
        CallbackAPIVersion.VERSION2, f"scanwright-{correlation[:12]}", protocol=MQTTProtocolVersion.MQTTv5
    )
    broker.secure(client)
    client.on_connect = lambda client, *_: client.subscribe(topics.response(name), qos=1)
    client.on_subscribe = lambda *_: ready.append(True)
    client.on_message = heard
    where = f"{broker.host}:{broker.port}"
    try:
        client.connect(broker.host, broker.port, 30)
    except OSError as error:
        raise ScanwrightError(f"broker {where}: cannot be reached ({error.strerror or error})") from error
    client.loop_start()
    try:
        if not _in_time(ready, _CONNECT_S):
            raise ScanwrightError(f"broker {where}: did not let this subscribe")
        client.publish(topics.command(name), said.model_dump_json(), qos=1)
        if not _in_time(answers, wait_s):
            raise ScanwrightError(f"{topics.site}/{topics.device} did not answer within {wait_s:.0f} s")
        return answers[0]
    finally:
        client.disconnect()
        client.loop_stop()


def _in_time(found: list[Any], wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while not found and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(found)


def _parsed(arguments: tuple[str, ...]) -> dict[str, Scalar]:
    given: dict[str, Scalar] = {}
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
