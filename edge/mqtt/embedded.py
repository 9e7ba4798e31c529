"""A broker inside the process, for demo and tests: MQTT 3.1.1, loopback only, nothing kept on disk."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from types import TracebackType

from edge.errors import ScanwrightError

__all__ = ["EmbeddedBroker"]

_HOST = "127.0.0.1"
_PATIENCE_S = 10.0


class EmbeddedBroker:
    """amqtt in a thread with an event loop of its own.

    It forgets the session of every client that leaves, and retained messages when it stops: a receiver that
    must not miss anything needs a real broker.
    """

    def __init__(self, port: int = 0) -> None:
        """``port`` on 127.0.0.1; 0 takes a free one."""
        self.host = _HOST
        self.port = port
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def start(self) -> int:
        """Listen, and return the port.

        Raises:
            ScanwrightError: the port is taken, or the broker did not come up.
        """
        self.port = _bindable(self.port)
        for noisy in ("amqtt", "transitions"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        up: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(up)), name="embedded-broker", daemon=True
        )
        self._thread.start()
        try:
            up.result(_PATIENCE_S)
        except FutureTimeoutError as error:
            raise ScanwrightError(f"the embedded broker did not start on port {self.port}") from error
        return self.port

    def stop(self) -> None:
        """Close all connections and the port. Stopping twice, or before the start, does nothing."""
        if self._thread and self._loop and self._stopping and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_PATIENCE_S)
        self._thread = None

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _serve(self, up: Future[None]) -> None:
        # Imported here: only demo and tests pay for it.
        from amqtt.broker import Broker
        from amqtt.contexts import BrokerConfig, ListenerConfig
        from amqtt.errors import BrokerError

        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        broker = Broker(
            BrokerConfig(
                listeners={"default": ListenerConfig(bind=f"{_HOST}:{self.port}")},
                plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            )
        )
        try:
            await broker.start()
        except BrokerError as error:
            up.set_exception(ScanwrightError(f"the embedded broker did not start: {error}"))
            return
        up.set_result(None)
        await self._stopping.wait()
        await broker.shutdown()


def _bindable(port: int) -> int:
    """``port``, or a free one for 0; refused here because the broker would only log a taken one."""
    try:
        with socket.create_server((_HOST, port)) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        raise ScanwrightError(
            f"the embedded broker cannot listen on {_HOST}:{port} ({error.strerror}); choose another port"
        ) from error
