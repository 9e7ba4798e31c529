"""A command to a cart over its broker, and the cart's answer."""

from __future__ import annotations

import time
import uuid
from datetime import datetime, timezone
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.agent.commands import Scalar
from edge.errors import ScanwrightError
from edge.mqtt.broker import Broker
from edge.mqtt.payloads import Command, Response
from edge.mqtt.topics import Topics

__all__ = ["order"]

_CONNECT_S = 10.0


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
