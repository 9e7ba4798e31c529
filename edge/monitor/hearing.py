"""What a message of a cart says, or why it is refused. No I/O: everything a stranger may send passes here."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from pydantic import ValidationError

from edge.errors import shown
from edge.mqtt.payloads import Ack, Birth, Event, Finding, Health, Response, Stamp
from edge.mqtt.topics import OFFLINE, ONLINE, ROOT
from edge.schema import Contract, is_name

__all__ = ["Heard", "Kind", "RefusedError", "finding_time", "hear", "off_s"]

Kind = Literal["availability", "birth", "health", "finding", "event", "response", "overlay", "ack"]
Body = Birth | Health | Finding | Event | Response | Ack | bytes | bool

_MODELS: dict[str, type[Contract]] = {
    "birth": Birth,
    "health": Health,
    "finding": Finding,
    "event": Event,
    "ack": Ack,
}
_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST_SIDE = 4096  # of an overlay, pixels
_AHEAD_S = 300.0  # what a trusted clock may be ahead of ours
_EARLIEST = datetime(2020, 1, 1, tzinfo=timezone.utc).timestamp()  # before there were carts


class RefusedError(ValueError):
    """A message is not taken. ``code`` is the monitor's event for it; ``site`` and ``device`` are those of
    the topic, empty where it names none."""

    def __init__(self, code: str, why: str, site: str = "", device: str = "") -> None:
        super().__init__(why)
        self.code, self.site, self.device = code, site, device


@dataclass(frozen=True)
class Heard:
    """One message that is what its topic says.

    ``body`` is the payload: a model, ``True`` or ``False`` for availability, the PNG of an overlay; ``name``
    is the finding of an overlay, the command of a response. ``received``: seconds since 1970. ``live``: the
    cart itself has just said it; not so what the broker had retained, and a last will.
    """

    kind: Kind
    site: str
    device: str
    body: Body
    text: str
    received: float
    name: str = ""
    live: bool = True


def hear(topic: str, payload: bytes, received: float, *, retained: bool = False) -> Heard:
    """Take a message apart. An empty one on a retained topic, as of a retired cart, says that it is gone.

    Raises:
        RefusedError: it is on no topic of a cart, is no valid payload, or speaks for another cart.
    """
    parts = topic.split("/")
    if len(parts) < 5 or parts[0] != ROOT or not is_name(parts[1]) or not is_name(parts[2]):
        raise RefusedError("message_refused", "its topic names no cart")
    site, device, kind, name = parts[1], parts[2], parts[4], "/".join(parts[5:])

    def refused(why: str, code: str = "message_refused") -> RefusedError:
        return RefusedError(code, why, site, device)

    if kind == "overlay":
        if wrong := _wrong(name, payload):
            raise refused(f"its overlay {wrong}")
        return Heard("overlay", site, device, payload, "", received, name)
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise refused(f"its {kind} is no text") from error
    if kind == "availability" or (kind == "birth" and not text):
        if text not in (ONLINE, OFFLINE, ""):
            raise refused("its availability is neither online nor offline")
        online = text == ONLINE
        return Heard("availability", site, device, online, text, received, live=online and not retained)
    model = Response if kind == "response" else _MODELS.get(kind)
    if model is None:
        raise refused("its topic is none of a cart")
    try:
        body = model.model_validate_json(payload)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = shown(".".join(str(part) for part in problem["loc"])[:100])
        raise refused(f"it is no {model.__name__}: {where} {problem['msg']}".strip()) from error
    if isinstance(body, Birth | Finding) and (body.site, body.device) != (site, device):
        raise refused("it speaks for another device than its topic's", "message_forged")
    return Heard(kind, site, device, body, text, received, name, not retained)  # type: ignore[arg-type]


def _wrong(name: str, payload: bytes) -> str | None:
    """What is wrong with an overlay; only its head is looked at, a browser draws it."""
    if len(name) != 32 or set(name) - set("0123456789abcdef"):
        return "is of no finding"
    if len(payload) < 24 or not payload.startswith(_PNG) or payload[12:16] != b"IHDR":
        return "is no PNG"
    if max(struct.unpack(">II", payload[16:24])) > _LARGEST_SIDE:
        return f"is larger than {_LARGEST_SIDE} pixels"
    return None


def finding_time(stamp: Stamp, received: float) -> tuple[float, bool]:
    """When a finding was decided, seconds since 1970, and whether that is known.

    The cart's own time where its clock was trusted or became known later, and is possible: a finding that
    came weeks late lands at the time it is of. Else the time that it came.
    """
    if stamp.corrected_at is None and not stamp.clock_trusted:
        return received, False
    at = (stamp.corrected_at or stamp.at).timestamp()
    if _EARLIEST <= at <= received + _AHEAD_S:
        return at, True
    return received, False


def off_s(stamp: Stamp, received: float) -> float:
    """How far the clock that a just sent message bears is ahead of ours, in seconds."""
    return (stamp.corrected_at or stamp.at).timestamp() - received
