"""``SITE.yaml``: a site, its broker and its carts, version 1. Flashing, keys and the gateway read it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge.agent.config import (
    AeTitle,
    MeteredBytes,
    PacsConfig,
    Port,
    RepositoryPlace,
    Source,
    ThresholdPolicy,
)
from edge.errors import BadInputError
from edge.schema import Contract, Name

__all__ = ["Broker", "Cart", "Courier", "Dicom", "Network", "Policy", "Site", "Updates", "Wifi"]

Interface = Annotated[str, Field(pattern=r"^[a-z][a-z0-9*]{0,14}$")]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class Broker(Contract):
    """The site's MQTT broker, and the headquarters' that it bridges to."""

    host: str
    port: Port = 8883
    tls: bool = True
    receipts: bool = True
    headquarters: str | None = Field(
        default=None, pattern=r"^[^\s:]+:\d{1,5}$", description="host:port the site's broker bridges to"
    )


class Wifi(Contract):
    """A network the cart joins."""

    ssid: Annotated[str, Field(min_length=1, max_length=32)]
    password_file: str = Field(
        description="file with the passphrase, beside SITE.yaml; never the passphrase itself"
    )
    country: Country


class Network(Contract):
    """A cart's network: the port towards the modality has a fixed address."""

    modality_interface: Interface = "eth0"
    modality_address: IPv4Interface = Field(
        default=IPv4Interface("192.168.77.1/24"),
        description="the cart's own there; the modality is given another one of the network by DHCP",
    )
    uplink: Literal["dhcp", "none"] = "dhcp"
    uplink_interface: Interface = Field(
        default="eth1", description="a second, wired port towards the broker; * stands for anything"
    )
    wifi: Wifi | None = None
    access_point: bool = Field(default=False, description="serve the screen over the cart's own Wi-Fi")
    access_point_address: IPv4Interface = IPv4Interface("192.168.78.1/24")
    country: Country | None = Field(
        default=None, description="whose rules for radio hold; needed by access_point"
    )

    @model_validator(mode="after")
    def _agrees(self) -> Network:
        if self.access_point and self.wifi:
            raise ValueError("wifi and access_point: the board has one radio; take one of the two")
        if self.access_point and not self.country:
            raise ValueError("country: name the country for access_point; radio rules differ")
        if self.access_point and self.modality_address.network.overlaps(self.access_point_address.network):
            raise ValueError("modality_address and access_point_address: are in one network; change one")
        for address in (self.modality_address, self.access_point_address):
            # DHCP needs room for the cart itself and at least one other.
            if address.network.prefixlen > 29 or address.ip not in list(address.network.hosts()):
                raise ValueError(f"{address}: is no host's address of a network of 8 or more")
        return self


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


class Updates(Contract):
    """How carts made with a release repository are kept current."""

    repositories: tuple[RepositoryPlace, ...] = Field(
        default=(),
        description="where they look for newer releases before the copy they carry: http(s) URLs, or folders"
        " that a stick is mounted on",
    )
    automatic: bool = Field(default=False, description="take them without a command, within the window")
    window: str | None = Field(default=None, description="as 22:00-05:00, in the cart's local time")
    health_s: float = Field(default=600, gt=0, description="how long a new one is watched before it stays")


class Courier(Contract):
    """Carts that a stick serves where no network does; see ``scanwright courier``."""

    hq_key: str = Field(
        description="file with headquarters' public key, beside SITE.yaml: hq.pub of 'courier keys'"
    )


class Cart(Contract):
    """One cart."""

    device: Name
    target: Name
    bundles: tuple[Name, ...] = Field(
        default=(), description="names of the bundles it runs; none named: the one given to 'flash'"
    )
    sources: tuple[Source, ...] = ()
    dicom: Dicom | None = None
    network: Network = Network()
    kiosk: bool = Field(
        default=False,
        description="show the screen on the cart's own monitor, all of it; the system has to bring a browser",
    )


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
    pacs: PacsConfig | None = Field(
        default=None, description="the archive that all carts forward originals to; no TLS here"
    )
    updates: Updates = Updates()
    courier: Courier | None = Field(
        default=None, description="carts take a stick, and seal what they give it"
    )
    policy: Policy | None = None
    carts: Annotated[tuple[Cart, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Site:
        names = [cart.device for cart in self.carts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"carts: two carts are called '{twice[0]}'")
        return self

    @model_validator(mode="after")
    def _courier_can_sign(self) -> Site:
        if self.courier and not self.broker.tls:
            raise ValueError("courier: needs broker.tls: what a cart sends is signed with its key")
        return self

    def cart(self, device: str) -> Cart:
        """The cart called ``device``.

        Raises:
            BadInputError: there is none; the message lists those there are.
        """
        for cart in self.carts:
            if cart.device == device:
                return cart
        known = ", ".join(cart.device for cart in self.carts)
        raise BadInputError(f"carts: no cart is called '{device}'; there are: {known}")
