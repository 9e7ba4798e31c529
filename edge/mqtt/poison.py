"""Messages at which a broker breaks off the connection, again and again. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge.mqtt.topics import packet_bytes

if TYPE_CHECKING:
    from edge.mqtt.waiting import Message

__all__ = ["Suspicion"]

_SOON_S = 5.0  # a broker that closes sooner after a message may not take it
_FRUITLESS = 2  # connections that got nothing across before each message goes alone
_STRIKES = 3  # tries that a message then has
_LEAST_BYTES = 4096  # nothing smaller is suspected


class Suspicion:
    """Finds the message that a broker does not take.

    A broker that names no largest packet (as with MQTT 3.1.1) closes the connection at one that is too large,
    and would for ever. When nothing gets across any more, messages go alone; one that is large and ends the
    connection at once three times in a row is the one. A network that fails gives silence, not an end.
    """

    def __init__(self) -> None:
        self._fruitless = 0

    @property
    def alone(self) -> bool:
        """Whether messages are to be sent one at a time."""
        return self._fruitless >= _FRUITLESS

    def lost(self, sent: Sequence[Message], got_across: bool, after_s: float) -> Message | None:
        """A connection was lost, ``after_s`` seconds after it last moved, with ``sent`` not acknowledged;
        ``got_across``: others were. The message to set aside, if it is found."""
        if got_across or not sent or after_s > _SOON_S:
            self._fruitless = 0
            return None
        self._fruitless += 1
        message = sent[0]
        large = packet_bytes(message.topic, message.payload) >= _LEAST_BYTES
        if self._fruitless < _FRUITLESS + _STRIKES or len(sent) > 1 or not large:
            return None
        self._fruitless = 0
        return message
