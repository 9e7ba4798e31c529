"""The device's connection to its broker: one thread, a bounded window, and the outbox emptied through it.

paho-mqtt is used without its own thread and with a new client for each connection, so that its queue never
holds more than the window and the outbox alone says what is sent again (paho.mqtt.python issue 492).
"""

from __future__ import annotations

import logging
import random
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.mqtt.broker import WINDOW, Broker
from edge.mqtt.lane import Lane
from edge.mqtt.meter import Meter, carried
from edge.mqtt.payloads import Ack
from edge.mqtt.poison import Suspicion
from edge.mqtt.topics import OFFLINE, ONLINE, Topics, packet_bytes
from edge.mqtt.waiting import Kind, Message, Waiting

__all__ = ["Connection"]

log = logging.getLogger(__name__)

_NO_SUBSCRIBER = 0x10
# As the payload of a Finding has it; within a text the quotes would be escaped.
_NEW, _LATE = b'"backfill":false', b'"backfill":true'
_RETRY_S = (0.5, 30.0)  # first and longest wait between attempts to connect
_AHEAD = 200  # findings read from the outbox at once
_LET_GO, _LET_GO_S = 256, 0.05  # what was taken leaves the outbox so many at once, or so soon
_FORGIVE_S = 86400.0  # what was set aside without a named limit is tried again
_FAREWELL_S = 5.0  # to say that the link has carried what it may today
_METERED_S = 1.0  # how soon another day is noticed
_STALLED_S = 60.0  # without an answer to what is in flight the connection is given up


class Connection:
    """Keeps one device connected, empties its outbox and hands it the commands it is sent.

    At every connect: subscriptions to ``down/command/+`` and ``down/ack``, ``online`` and the birth retained,
    then what waits, findings first, at most ``min(20, ReceiveMaximum)`` in flight. A finding is done on its
    id in ``down/ack`` (``receipts``), else on its PUBACK (MQTT 5: not one that says that nobody subscribed);
    it is sent again after a disconnect, and after a growing wait where nobody took it. A message that is
    larger than the broker takes, or at which it breaks off the connection again and again, is set aside.
    """

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        outbox: Waiting,
        *,
        receipts: bool,
        birth: Callable[[], bytes],
        command: Callable[[str, bytes], bytes | None],
        changed: Callable[[bool, str], None],
        refused: Callable[[Kind, str, int, int], None],
        meter: Meter | None = None,
        introduction: Mapping[str, bytes] | None = None,
    ) -> None:
        """``birth`` gives the payload of each connect; ``introduction``, by topic, is retained beside it;
        ``command`` answers a command's name and payload; ``changed`` hears that the broker is there (True)
        or not, with the reason; ``refused`` of a message to set aside: kind, id, bytes, and the largest
        packet that the broker takes (0: it named none). All are called from the connection's thread.
        ``meter`` says what the link may still carry today.

        Raises:
            BadInputError: a TLS file is missing or is not one.
        """
        self._broker, self._topics, self._outbox = broker, topics, outbox
        self._receipts, self._birth, self._command, self._changed = receipts, birth, command, changed
        self._refused, self._meter = refused, meter or Meter(None, lambda: "")
        self._introduction = introduction or {}
        self._retained = {topics.availability, topics.birth, *self._introduction}
        self._suspicion, self._forgive_at = Suspicion(), float("-inf")
        broker.client(topics)  # so that a wrong TLS file is told at once
        self._known_online: bool | None = None
        self._latest: dict[str, bytes] = {}
        self._stopping = threading.Event()
        self._deadline = float("inf")
        self._woken, self._waker = ends = socket.socketpair()
        for end in ends:
            end.setblocking(False)
        self._reset()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    @property
    def online(self) -> bool:
        """Whether the broker has accepted the connection that stands."""
        return self._online

    @property
    def largest(self) -> int:
        """The largest packet that the broker takes, in bytes; 0 where it names no limit."""
        return self._largest_out

    def start(self) -> None:
        """Begin connecting; returns at once, whether a broker is there or not."""
        self._thread.start()

    def wake(self) -> None:
        """Look at the outbox now. Callable from any thread."""
        with suppress(OSError):  # one is pending already, or the connection was stopped
            self._waker.send(b"\0")

    def say(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 0, a birth retained; while there is no connection only a topic's latest is kept."""
        self._latest[topic] = payload
        self.wake()

    def stop(self, timeout_s: float) -> None:
        """Tell what waits and that the device goes offline, within ``timeout_s``, and disconnect.

        Where that does not succeed the connection is dropped, so that the broker tells the last will.
        """
        self._deadline = time.monotonic() + timeout_s
        self._stopping.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s + 1)
        if not self._thread.is_alive():
            self._woken.close()
            self._waker.close()

    # From here on everything runs in the connection's thread.

    def _reset(self) -> None:
        self._online = False
        self._refusal = ""
        self._window = 1
        self._largest_out = 0  # 0: the broker names no limit
        self._late = 0
        self._own: deque[tuple[str, bytes]] = deque()
        self._in_flight: dict[int, Message | None] = {}
        self._ready: deque[Message] = deque()
        self._acknowledged: list[str] = []
        self._let_go_at = 0.0
        self._got_across = False
        self._carried = 0
        self._deleted: Future[int] | None = None
        self._answered = time.monotonic()
        self._lanes = {kind: Lane(kind) for kind in ("finding", "event", "overlay")}

    def _run(self) -> None:
        wait, longest = _RETRY_S
        while not self._stopping.is_set():
            if not self._meter.allows("connection"):
                self._stopping.wait(_METERED_S)
                continue
            if not self._stopping.is_set():
                self._deadline = float("inf")
            client = self._broker.client(self._topics)
            client.on_connect = self._on_connect
            client.on_disconnect = self._on_disconnect
            client.on_publish = self._on_publish
            client.on_message = self._on_message
            self._reset()
            with self._closing(client):
                accepted = self._connect(client) and self._serve(client)
            self._let_go()
            if accepted and not self._stopping.is_set():
                self._suspect()
            self._online = False
            wait = _RETRY_S[0] if accepted else min(wait * 2, longest)
            # A random part keeps a site's carts from coming back all at once.
            self._stopping.wait(wait * random.uniform(0.5, 1.0))

    @contextmanager
    def _closing(self, client: Client) -> Iterator[None]:
        """Drop the connection if it still stands, without a DISCONNECT."""
        try:
            yield
        finally:
            if (sock := client.socket()) is not None:
                sock.close()

    def _connect(self, client: Client) -> bool:
        try:
            self._broker.connect(client)
        except OSError as error:
            self._tell(False, error.strerror or str(error))
            return False
        return True

    def _serve(self, client: Client) -> bool:
        """Run one connection until it ends; whether the broker had accepted it."""
        accepted = False
        status = MQTTErrorCode.MQTT_ERR_SUCCESS
        while status == MQTTErrorCode.MQTT_ERR_SUCCESS and (sock := client.socket()) is not None:
            self._count(sock)
            if self._ending() and self._finished(client):
                break
            self._pump(client)
            if client.socket() is None:
                break
            writing = [sock] if client.want_write() else []
            readable, writable, _ = select.select([sock, self._woken], writing, [], 1.0)
            if self._woken in readable:
                self._woken.recv(4096)
            if sock in readable:
                status = self._read(client)
            if writable and client.socket() is not None:
                client.loop_write()
            if (
                not self._in_flight
                or len(self._acknowledged) >= _LET_GO
                or time.monotonic() >= self._let_go_at
            ):
                self._let_go()
            status = status or client.loop_misc()
            accepted = accepted or self._online
            if self._in_flight and time.monotonic() - self._answered > _STALLED_S:
                self._refusal = "the broker does not answer"
                break
        if (sock := client.socket()) is not None:
            self._count(sock)
        if self._meter.allows("connection"):
            self._tell(False, self._refusal or "the connection was lost")
        else:
            self._tell(False, "the link has carried what it may today")
        return accepted

    def _ending(self) -> bool:
        if not self._stopping.is_set() and not self._meter.allows("connection"):
            self._deadline = min(self._deadline, time.monotonic() + _FAREWELL_S)
            return True
        return self._stopping.is_set()

    def _count(self, sock: Any) -> None:
        now = carried(sock)
        self._meter.add(max(0, now - self._carried))
        self._carried = max(now, self._carried)

    def _let_go(self) -> None:
        self._let_go_at = time.monotonic() + _LET_GO_S
        if self._acknowledged:
            self._deleted = self._outbox.done(self._acknowledged)
            self._acknowledged = []

    def _suspect(self) -> None:
        """Set aside the message that the broker does not take, if it is found at the end of a connection."""
        sent = [message for message in self._in_flight.values() if message is not None]
        found = self._suspicion.lost(sent, self._got_across, time.monotonic() - self._answered)
        if found:
            self._refused(found.kind, found.id, packet_bytes(found.topic, found.payload), 0)

    def _read(self, client: Client) -> MQTTErrorCode:
        while True:
            status = client.loop_read()
            sock = client.socket()
            # TLS may hold decrypted bytes that select does not see.
            if status or sock is None or not getattr(sock, "pending", lambda: 0)():
                return status

    def _tell(self, online: bool, why: str) -> None:
        if self._known_online is not online and not (self._stopping.is_set() and not online):
            self._changed(online, why)
        self._known_online = online

    def _finished(self, client: Client) -> bool:
        """While stopping: whether the connection may end; says ``offline`` once everything else is told."""
        now = time.monotonic()
        if not self._online or now > self._deadline:
            return True
        waiting = self._in_flight or self._own or self._head()
        if waiting and now < self._deadline - 1.0:
            return False
        if waiting:  # no time left for it: it stays in the outbox
            self._own.clear()
        info = client.publish(self._topics.availability, OFFLINE, qos=1, retain=True)
        while not info.is_published() and time.monotonic() < self._deadline:
            if (sock := client.socket()) is None:
                return True
            if select.select([sock], [], [], 0.1)[0] and self._read(client):
                return True
        if info.is_published():
            client.disconnect()
        return True

    def _pump(self, client: Client) -> None:
        if not self._online:
            return
        for topic in list(self._latest) if self._meter.allows("health") else ():
            client.publish(topic, self._latest.pop(topic), qos=0, retain=topic in self._retained)
        while len(self._in_flight) < self._window:
            if self._own:
                topic, payload = self._own.popleft()
                sent = client.publish(topic, payload, qos=1, retain=topic in self._retained)
                self._in_flight[sent.mid] = None
            elif (message := self._head()) is not None:
                self._ready.popleft()
                self._lanes[message.kind].sent(message)
                self._in_flight[client.publish(message.topic, self._payload(message), qos=1).mid] = message
            else:
                return
            if len(self._in_flight) == 1:
                self._answered = time.monotonic()

    def _head(self) -> Message | None:
        """The next message to send, if any; it stays at the head of ``_ready``."""
        while self._ready or self._refill():
            message = self._ready[0]
            lane = self._lanes[message.kind]
            size = packet_bytes(message.topic, message.payload)
            too_large = 0 < self._largest_out < size
            if lane.held or too_large:
                if too_large:
                    self._refused(message.kind, message.id, size, self._largest_out)
                    lane.sent(message)
                self._ready.popleft()
                continue
            if self._meter.allows(lane.kind, size + self._unsettled_bytes()):
                return message
            # Taken from the outbox again when what is under way has been counted, findings first.
            self._ready.clear()
            break
        return None

    def _unsettled_bytes(self) -> int:
        """At most so many bytes are under way that the meter has not seen."""
        waiting = (m for m in self._in_flight.values() if m is not None)
        return sum(packet_bytes(m.topic, m.payload) for m in waiting) if self._meter.cap else 0

    def _refill(self) -> bool:
        now = time.monotonic()
        for lane in self._lanes.values():
            if lane.again(now) and not self._unsettled(lane):
                self._late = max(self._late, lane.cursor)
                lane.rewind()
            if not lane.held and self._meter.allows(lane.kind):
                most = lane.room(_AHEAD if lane.kind == "finding" else WINDOW)
                self._ready.extend(self._outbox.next(most, lane.kind, lane.cursor))
            if self._ready:
                return True
        return False

    def _unsettled(self, lane: Lane) -> bool:
        """Whether the outbox still holds messages that were sent well, or may yet be."""
        deleting = bool(self._acknowledged) or (self._deleted is not None and not self._deleted.done())
        return deleting or any(m is not None and m.kind == lane.kind for m in self._in_flight.values())

    def _payload(self, message: Message) -> bytes:
        if message.kind != "finding" or message.seq > self._late:
            return message.payload
        return message.payload.replace(_NEW, _LATE, 1)

    def _on_connect(
        self, client: Client, _userdata: Any, _flags: ConnectFlags, code: ReasonCode, said: Properties | None
    ) -> None:
        if code.is_failure:
            self._refusal = f"the broker refused: {code}"
            return
        self._window = 1 if self._suspicion.alone else min(WINDOW, getattr(said, "ReceiveMaximum", WINDOW))
        self._largest_out = getattr(said, "MaximumPacketSize", 0)
        self._late = self._outbox.last()
        now = time.monotonic()
        self._outbox.bring_back(self._largest_out, everything=now >= self._forgive_at)
        if now >= self._forgive_at:
            self._forgive_at = now + _FORGIVE_S
        self._refusal = ""
        self._online = True
        client.subscribe([(self._topics.command("+"), 1), (self._topics.ack, 1)])
        self._own.append((self._topics.availability, ONLINE.encode()))
        self._own.append((self._topics.birth, self._birth()))
        self._own.extend(self._introduction.items())
        self._tell(True, "")

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: Any,
        _flags: DisconnectFlags,
        code: ReasonCode,
        _said: Properties | None,
    ) -> None:
        if code.is_failure and not self._refusal:
            self._refusal = f"the connection was lost: {code}"

    def _on_publish(
        self, _client: Client, _userdata: Any, mid: int, code: ReasonCode, _said: Properties | None
    ) -> None:
        self._answered = time.monotonic()
        message = self._in_flight.pop(mid, None)
        if message is None:
            if code.is_failure:
                log.warning("the broker does not take a message", extra={"reason": str(code)})
            return
        self._got_across = True
        lane = self._lanes[message.kind]
        if code.is_failure or (code.value == _NO_SUBSCRIBER and message.kind == "finding"):
            if lane.refused(time.monotonic()):
                log.warning(
                    "not taken, sending again later", extra={"kind": message.kind, "reason": str(code)}
                )
        elif self._receipts and message.kind == "finding":
            lane.awaits(message, time.monotonic())
        else:
            lane.taken([message.id], time.monotonic())
            self._acknowledged.append(message.id)

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        if message.topic == self._topics.ack:
            try:
                ids = Ack.model_validate_json(message.payload).ids
            except ValueError:
                log.warning("a message on down/ack is no Ack")
                return
            self._lanes["finding"].taken(ids, time.monotonic())
            self._acknowledged.extend(ids)
        elif message.retain:
            log.warning("a retained command was ignored")
        else:
            name = message.topic.rsplit("/", 1)[-1]
            answer = self._command(name, bytes(message.payload))
            if answer is not None:
                self._own.append((self._topics.response(name), answer))
