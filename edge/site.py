"""``SITE.yaml``: a site, its broker and its carts, version 1. Flashing, keys and the gateway read it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge.agent.config import MeteredBytes, Port, Source, ThresholdPolicy
from edge.schema import Contract, Name

__all__ = ["Broker", "Cart", "Dicom", "Network", "Policy", "Site", "Wifi"]

AeTitle = Annotated[str, Field(pattern=r"^[!-\[\]-~][ -\[\]-~]{0,14}[!-\[\]-~]$|^[!-\[\]-~]$")]


class Broker(Contract):
    """The site's MQTT broker, and the headquarters' that it bridges to."""

    host: str
    port: Port = 8883
    tls: bool = True
    receipts: bool = True
    headquarters: str | None = Field(default=None, description="host:port the site's broker bridges to")


class Wifi(Contract):
    """A network the cart joins."""

    ssid: Annotated[str, Field(min_length=1, max_length=32)]
    password_file: str = Field(
        description="file with the passphrase, beside SITE.yaml; never the passphrase itself"
    )
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class Network(Contract):
    """A cart's network: the port towards the modality has a fixed address."""

    modality_address: IPv4Interface = IPv4Interface("192.168.77.1/24")
    uplink: Literal["dhcp", "none"] = "dhcp"
    wifi: Wifi | None = None
    access_point: bool = Field(default=False, description="serve the screen over the cart's own Wi-Fi")


class Dicom(Contract):
    """The cart as a DICOM storage provider."""

    ae_title: AeTitle = "SCANWRIGHT"
    port: Port = 11112
    callers: tuple[AeTitle, ...] = Field(
        default=(), description="calling AE titles admitted; none listed admits all"
    )


class Policy(ThresholdPolicy):
    """What a site decides, within the limits of each manifest."""

    metered_bytes_a_day: MeteredBytes | None = None
    keep_days: float = Field(default=30, gt=0)


class Cart(Contract):
    """One cart."""

    device: Name
    target: Name
    bundles: tuple[Name, ...] = ()
    sources: tuple[Source, ...] = ()
    dicom: Dicom | None = None
    network: Network = Network()


class Site(Contract):
    """``SITE.yaml``."""

    schema_version: Literal[1] = 1
    site: Name
    title: str | None = None
    language: Literal["en", "zh", "fr", "es", "ar"] = "en"
    timezone: str = "UTC"
    ntp: tuple[str, ...] = ()
    gateway_address: IPv4Address | None = None
    broker: Broker
    policy: Policy | None = None
    carts: Annotated[tuple[Cart, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Site:
        names = [cart.device for cart in self.carts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"carts: two carts are called '{twice[0]}'")
        return self
