"""A simulated fleet: messages of the agent's own payload models, for trying the pages out and for tests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any

from edge.bundle.reasons import Reason
from edge.monitor.hearing import Heard, hear
from edge.mqtt.payloads import Birth, BundleRef, Event, Evidence, Finding, Health, Stamp
from edge.mqtt.topics import Topics

__all__ = ["BUNDLE", "Simulated", "carts", "found", "health", "hello", "png"]

BUNDLE = BundleRef(name="chest", version="1.0.0", sha256="0" * 64, target="raspberry-pi-5", signed=True)


class Simulated:
    """One cart. Each method gives a topic and a payload, as the cart would publish them."""

    def __init__(self, site: str, device: str, boot: str = "boot-1", bundle: BundleRef = BUNDLE) -> None:
        self.site, self.device, self.boot, self.bundle = site, device, boot, bundle
        self.topics = Topics(site, device)
        self._number = 0

    def stamp(self, at: datetime | None = None, trusted: bool = True) -> Stamp:
        return Stamp(
            at=at or datetime.now(timezone.utc), clock_trusted=trusted, monotonic_s=100.0, boot_id=self.boot
        )

    def online(self, is_online: bool = True) -> tuple[str, bytes]:
        return self.topics.availability, b"online" if is_online else b"offline"

    def birth(self, **changes: Any) -> tuple[str, bytes]:
        birth = Birth(
            site=self.site,
            device=self.device,
            stamp=self.stamp(),
            agent_version="0.9.0",
            target="raspberry-pi-5",
            interpreter="litert 2.3.0",
            bundles=(self.bundle,),
            started=datetime.now(timezone.utc) - timedelta(hours=5),
        )
        return self.topics.birth, birth.model_copy(update=changes).model_dump_json().encode()

    def health(self, at: datetime | None = None, **changes: Any) -> tuple[str, bytes]:
        health = Health(
            stamp=self.stamp(at),
            uptime_s=18_000.0,
            frames=120,
            findings=118,
            quarantined=0,
            backlog=0,
            inference_ms=14.0,
            disk_free_mb=20_000.0,
            disk_days=200.0,
            memory_mb=140.0,
            temperature_celsius=52.0,
            load=0.4,
            certificate_days=300.0,
        )
        return self.topics.health, health.model_copy(update=changes).model_dump_json().encode()

    def finding(
        self,
        decision: str = "negative",
        probability: float | None = 0.1,
        at: datetime | None = None,
        trusted: bool = True,
        **changes: Any,
    ) -> tuple[str, bytes]:
        self._number += 1
        positive = decision == "positive"
        known = {} if decision == "no_result" or probability is None else {"pneumonia": probability}
        finding = Finding(
            id=uuid.uuid5(uuid.NAMESPACE_OID, f"{self.site}/{self.device}/{self.boot}/{self._number}").hex,
            site=self.site,
            device=self.device,
            stamp=self.stamp(at, trusted),
            case_code=f"{self._number // 1000 % 10000:04d}-{self._number % 10000:04d}",
            study=uuid.uuid5(uuid.NAMESPACE_URL, f"{self.site}/{self.device}/{self.boot}/{self._number}").hex,
            source="folder",
            bundle=self.bundle,
            decision=decision,  # type: ignore[arg-type]
            label="pneumonia" if positive else None,
            probability=known.get("pneumonia"),
            probabilities=known and known | {"normal": 1 - known["pneumonia"]},
            thresholds={"pneumonia": 0.5},
            reasons=(Reason.BLURRED,) if decision == "no_result" else (),
            evidence=Evidence(quality={"brightness": 120.0, "contrast": 40.0, "sharpness": 2.0}),
        )
        return self.topics.finding, finding.model_copy(update=changes).model_dump_json().encode()

    def event(
        self, code: str, message: str = "", severity: str = "warning", **data: Any
    ) -> tuple[str, bytes]:
        event = Event(
            id=uuid.uuid4().hex,
            stamp=self.stamp(),
            severity=severity,  # type: ignore[arg-type]
            code=code,
            message=message or code,
            data=data,
        )
        return self.topics.event, event.model_dump_json().encode()

    def heard(self, said: tuple[str, bytes], received: float | None = None) -> Heard:
        """A message as the monitor takes it."""
        return hear(*said, received if received is not None else datetime.now(timezone.utc).timestamp())


def png(side: int = 64, seed: int = 0) -> bytes:
    """An overlay as carts send it: a heat map of one warm spot, without any image."""
    import cv2
    import numpy as np

    chance = np.random.default_rng(seed)
    row, column = chance.uniform(0.3, 0.7, 2) * side
    rows, columns = np.mgrid[:side, :side]
    heat = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * (side / 7) ** 2))
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    pixels = np.dstack([colours, (heat * 220).astype(np.uint8)])
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


_SITES = ("clinic-east", "clinic-west", "hospital-north", "island")
_OLD = BUNDLE.model_copy(update={"version": "0.9.0"})
# What is not well with some of the carts, by their number.
_TROUBLES: dict[int, dict[str, Any]] = {
    4: {"refusing": True, "disk_free_mb": 120.0, "disk_days": 0.1},
    8: {"temperature_celsius": 83.0, "throttling": ("throttled",)},
    12: {"certificate_days": 6.0},
    18: {"disk_days": 4.0, "disk_free_mb": 2500.0},
    23: {"backlog": 840, "backlog_oldest_s": 18_000.0},
}
_OFFLINE = (14, 27)


def carts(n: int) -> list[Simulated]:
    """``n`` carts at four sites, some with an older model, just started."""
    boot = uuid.uuid4().hex
    return [
        Simulated(_SITES[k % len(_SITES)], f"cart-{k:02d}", boot, _OLD if k % 9 == 5 else BUNDLE)
        for k in range(1, n + 1)
    ]


def hello(number: int, cart: Simulated, chance: Random) -> Iterator[tuple[str, bytes]]:
    """What a cart says when it connects: that it is there, how it is, and what it found in the last week."""
    yield cart.birth()
    yield cart.online()
    yield health(number, cart, chance)
    for _ in range(12):
        at = datetime.now(timezone.utc) - timedelta(days=chance.uniform(0, 7))
        yield from found(cart, chance, at=at, backfill=True)
    if number in _OFFLINE:
        yield cart.online(False)


def health(number: int, cart: Simulated, chance: Random) -> tuple[str, bytes]:
    """How a cart is now."""
    usual = {"temperature_celsius": 50 + 8 * chance.random(), "load": chance.random()}
    return cart.health(**usual | _TROUBLES.get(number, {}))


def found(cart: Simulated, chance: Random, **changes: Any) -> Iterator[tuple[str, bytes]]:
    """A finding, with its overlay if it is positive."""
    p = chance.betavariate(1, 6) if chance.random() < 0.85 else chance.betavariate(5, 2)
    decision = "no_result" if chance.random() < 0.05 else "positive" if p >= 0.5 else "negative"
    topic, payload = cart.finding(decision, p, **changes)
    yield topic, payload
    if decision == "positive":
        yield cart.topics.overlay(json.loads(payload)["id"]), png(seed=chance.randrange(1000))
