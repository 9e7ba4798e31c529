"""The broker that a configuration names."""

from __future__ import annotations

from edge.agent.config import MqttConfig
from edge.errors import BadInputError
from edge.mqtt.broker import Broker

__all__ = ["broker_of"]


def broker_of(config: MqttConfig) -> Broker:
    """The configured broker, with its password read.

    Raises:
        BadInputError: the password file cannot be read.
    """
    password = None
    if config.password_file is not None:
        try:
            password = config.password_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"mqtt.password_file: {config.password_file} cannot be read") from error
    tls = config.tls
    return Broker(
        host=config.host,
        port=config.port,
        protocol=config.protocol,
        username=config.username,
        password=password,
        ca=tls.ca if tls else None,
        certificate=tls.certificate if tls else None,
        key=tls.key if tls else None,
        keepalive_s=config.keepalive_s,
    )
