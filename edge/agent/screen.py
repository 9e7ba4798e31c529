"""The cart's own screen: a read-only page over the agent's store, live by Server-Sent Events."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import edge.web
from edge.agent.config import AgentConfig, ScreenConfig
from edge.agent.page import View, parse, render
from edge.agent.store import Store
from edge.errors import ScanwrightError
from edge.mqtt.payloads import BundleRef
from edge.web.catalogue import load_texts

__all__ = ["ScreenServer", "create_app"]

log = logging.getLogger(__name__)

_SHOWN = 120  # findings that page and API look back on
_LOOK_S = 0.2  # how often an event stream looks for news
_TICK_S = 5.0  # how often it says that it is alive; the page waits three of these
_STREAMS = 32  # pages that may listen at once
_ID = re.compile(r"[0-9a-f]{32}")

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Pictures of patients and findings are in no browser's cache.
    "Cache-Control": "no-store",
}


class _SecurityHeaders:
    """Puts the headers on every answer, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _Screen:
    """The endpoints."""

    def __init__(
        self,
        store: Store,
        config: AgentConfig,
        bundles: Sequence[BundleRef],
        connected: Callable[[], bool],
        closing: threading.Event,
    ) -> None:
        self._store = store
        self._config = config
        self._unsigned = not all(bundle.signed for bundle in bundles)
        self._connected = connected
        self._closing = closing
        self._texts = load_texts(config.language)
        self._streams = 0

    def state(self) -> dict[str, Any]:
        """What a page compares to see that it is out of date."""
        return {
            "sequence": self._store.sequence(),
            "connected": self._connected(),
            "waiting": self._store.waiting(),
        }

    def page(self, request: Request) -> Response:
        wanted = request.query_params.get("finding", "")
        stored = self._store.get(wanted) if _ID.fullmatch(wanted) else None
        latest = self._store.latest(_SHOWN, pictures=False)
        if stored is None and latest:
            stored = self._store.get(latest[0].id)
        view = View(
            site=self._config.site,
            device=self._config.device,
            language=self._config.language,
            findings=[parse(row) for row in latest],
            chosen=parse(stored) if stored else None,
            image=bool(stored and stored.image),
            overlay=bool(stored and stored.overlay),
            connected=self._connected(),
            waiting=self._store.waiting(),
            unsigned=self._unsigned,
        )
        return HTMLResponse(render(view, self._texts))

    def findings(self, request: Request) -> Response:
        rows = self._store.latest(_SHOWN, pictures=False)
        listed = [{"seq": row.seq, "delivered": row.delivered, "finding": row.finding} for row in rows]
        return JSONResponse({**self.state(), "findings": listed})

    def image(self, request: Request) -> Response:
        return self._picture(request, "image")

    def overlay(self, request: Request) -> Response:
        return self._picture(request, "overlay")

    def _picture(self, request: Request, kind: str) -> Response:
        id_ = request.path_params["id"]
        stored = self._store.get(id_) if _ID.fullmatch(id_) else None
        png: bytes | None = getattr(stored, kind, None)
        if png is None:
            return PlainTextResponse("no such picture\n", status_code=404)
        return Response(png, media_type="image/png")

    async def events(self, request: Request) -> Response:
        if self._streams >= _STREAMS:
            return PlainTextResponse("too many pages are listening\n", status_code=503)
        return StreamingResponse(self._news(), media_type="text/event-stream")

    async def _news(self) -> AsyncIterator[str]:
        """The state at once, at every change, and every few seconds to say that the agent lives."""
        self._streams += 1
        try:
            yield "retry: 1000\n\n"
            told, told_at = None, 0.0
            clock = asyncio.get_running_loop().time
            while not self._closing.is_set():
                state = await run_in_threadpool(self.state)
                if state != told or clock() - told_at >= _TICK_S:
                    yield f"data: {json.dumps(state)}\n\n"
                    told, told_at = state, clock()
                await asyncio.sleep(_LOOK_S)
        finally:
            self._streams -= 1

    def health(self, request: Request) -> Response:
        self._store.sequence()
        return PlainTextResponse("ok\n")


def create_app(
    store: Store,
    config: AgentConfig,
    bundles: Sequence[BundleRef] = (),
    connected: Callable[[], bool] = lambda: False,
    closing: threading.Event | None = None,
) -> Starlette:
    """The application: ``/``, ``/api/findings``, ``/api/events``, ``/image/<id>.png``, ``/overlay/<id>.png``
    and ``/healthz``, all of them GET.

    Args:
        store: the agent's.
        config: names, and the language of the texts.
        bundles: those in use; one that is not signed is said on every page.
        connected: whether the broker is reached, from any thread.
        closing: ends the event streams when set, so that a server can stop.
    """
    screen = _Screen(store, config, bundles, connected, closing or threading.Event())
    return Starlette(
        routes=[
            Route("/", screen.page),
            Route("/api/findings", screen.findings),
            Route("/api/events", screen.events),
            Route("/image/{id}.png", screen.image),
            Route("/overlay/{id}.png", screen.overlay),
            Route("/healthz", screen.health),
            Mount("/static", StaticFiles(directory=Path(edge.web.__file__).parent / "static")),
        ],
        middleware=[Middleware(_SecurityHeaders)],
    )


class ScreenServer:
    """The screen, served from a thread of its own."""

    def __init__(
        self,
        store: Store,
        config: AgentConfig,
        screen: ScreenConfig,
        bundles: Sequence[BundleRef],
        connected: Callable[[], bool],
    ) -> None:
        """Take the port (``screen.port`` 0: a free one).

        Raises:
            ScanwrightError: it cannot be taken.
        """
        family = socket.AF_INET6 if ":" in screen.host else socket.AF_INET
        try:
            self._socket = socket.create_server((screen.host, screen.port), family=family)
        except OSError as error:
            raise ScanwrightError(
                f"screen: cannot listen on {screen.host}:{screen.port} ({error.strerror}); "
                "choose another screen.port"
            ) from error
        port = self._socket.getsockname()[1]
        host = f"[{screen.host}]" if ":" in screen.host else screen.host
        self.url = f"http://{host}:{port}/"
        self._closing = threading.Event()
        app = create_app(store, config, bundles, connected, self._closing)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=2,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="screen", daemon=True
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
