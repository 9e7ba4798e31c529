"""What serves the cart's screen and the monitor's page: a thread, headers, forms and event streams."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["EventStreams", "SecurityHeaders", "WebServer", "form_body"]

_LOOK_S = 0.2  # how often an event stream looks for news
_TICK_S = 5.0  # how often it says that it is alive; the page waits three of these

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Pictures of patients and findings are in no browser's cache.
    "Cache-Control": "no-store",
}


class SecurityHeaders:
    """Puts the headers on every answer, errors included; what an endpoint has set itself stays.

    ``strict_transport``: an answer by HTTPS asks for HTTPS from then on, too.
    """

    def __init__(self, app: ASGIApp, strict_transport: bool = False) -> None:
        self._app, self._strict_transport = app, strict_transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if self._strict_transport and scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def form_body(request: Request, most: int) -> bytes | None:
    """The body of a form that a page of this server sent, of ``most`` bytes at most; None for any other."""
    if request.headers.get("origin") != f"{request.url.scheme}://{request.url.netloc}":
        return None
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            return None
    return body


class EventStreams:
    """The Server-Sent Events of one server: to each page that listens the state at once, at every change, and
    every few seconds to say that the server lives.

    Args:
        state: what a page compares to see that it is out of date; JSON comes of it.
        closing: ends the streams when set, so that the server can stop.
        most: pages that may listen at once.
    """

    def __init__(
        self, state: Callable[[], Awaitable[dict[str, Any]]], closing: threading.Event, most: int
    ) -> None:
        self._state, self._closing, self._most = state, closing, most
        self._open = 0

    def answer(self) -> Response:
        """One more stream, or a refusal where too many are open."""
        if self._open >= self._most:
            return PlainTextResponse("too many pages are listening\n", status_code=503)
        return StreamingResponse(self._news(), media_type="text/event-stream")

    async def _news(self) -> AsyncIterator[str]:
        self._open += 1
        try:
            yield "retry: 1000\n\n"
            told, told_at = None, 0.0
            clock = asyncio.get_running_loop().time
            while not self._closing.is_set():
                state = await self._state()
                if state != told or clock() - told_at >= _TICK_S:
                    yield f"data: {json.dumps(state)}\n\n"
                    told, told_at = state, clock()
                await asyncio.sleep(_LOOK_S)
        finally:
            self._open -= 1


class WebServer:
    """An application, served from a thread of its own. ``url`` says where."""

    def __init__(
        self, app: ASGIApp, host: str, port: int, closing: threading.Event, name: str, **options: Any
    ) -> None:
        """Take the port (0: a free one). ``closing`` ends the application's event streams, ``name`` is the
        thread's, and ``options`` are uvicorn's.

        Raises:
            OSError: the port cannot be taken.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family)
        shown = f"[{host}]" if ":" in host else host
        scheme = "https" if options.get("ssl_certfile") else "http"
        self.url = f"{scheme}://{shown}:{self._socket.getsockname()[1]}/"
        self._closing = closing
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=2,
                **options,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name=name, daemon=True
        )

    def start(self) -> None:
        """Serve."""
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        self._thread.start()

    def stop(self) -> None:
        """End the event streams, answer what was asked, and close the port."""
        self._closing.set()
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self._socket.close()
