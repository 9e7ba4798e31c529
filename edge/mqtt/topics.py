"""The topics: ``scanwright/<site>/<device>/up/…`` from a device, ``…/down/…`` to it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OFFLINE", "ONLINE", "ROOT", "Topics", "packet_bytes"]

ROOT = "scanwright"
ONLINE, OFFLINE = "online", "offline"


@dataclass(frozen=True)
class Topics:
    """The topics of one device of one site."""

    site: str
    device: str

    def up(self, name: str) -> str:
        """A topic that the device writes."""
        return f"{ROOT}/{self.site}/{self.device}/up/{name}"

    def down(self, name: str) -> str:
        """A topic that the device reads."""
        return f"{ROOT}/{self.site}/{self.device}/down/{name}"

    @property
    def availability(self) -> str:
        """Retained; the text ``online``, or ``offline`` as the last will."""
        return self.up("availability")

    @property
    def birth(self) -> str:
        """Retained; a Birth."""
        return self.up("birth")

    @property
    def finding(self) -> str:
        """QoS 1; a Finding."""
        return self.up("finding")

    @property
    def health(self) -> str:
        """A Health."""
        return self.up("health")

    @property
    def event(self) -> str:
        """QoS 1; an Event."""
        return self.up("event")

    def overlay(self, finding_id: str) -> str:
        """A de-identified PNG."""
        return self.up(f"overlay/{finding_id}")

    def response(self, name: str) -> str:
        """A Response to the command ``name``."""
        return self.up(f"response/{name}")

    def command(self, name: str) -> str:
        """A Command; ``+`` subscribes to all."""
        return self.down(f"command/{name}")

    @property
    def ack(self) -> str:
        """An Ack: ids of findings that are durably stored at the receiver."""
        return self.down("ack")


def packet_bytes(topic: str, payload: bytes) -> int:
    """The most that the PUBLISH packet of a message takes (MQTT 5, 3.3), in bytes."""
    return len(payload) + len(topic) + 64
