"""The cart's own screen: a read-only page over the agent's store, live by Server-Sent Events."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import edge.web
from edge.agent import metrics
from edge.agent.cases import Cases
from edge.agent.config import AgentConfig, ScreenConfig
from edge.agent.lock import OPEN_S, Lock, read_pin
from edge.agent.page import Patients, View, parse, render, render_unlock
from edge.agent.stick import Stick
from edge.agent.store import Store
from edge.agent.vault import VaultError
from edge.errors import ScanwrightError
from edge.exposition import CONTENT_TYPE
from edge.imaging.patient import Patient
from edge.mqtt.payloads import BundleRef, Finding, Health
from edge.web.catalogue import load_texts
from edge.web.server import EventStreams, SecurityHeaders, WebServer, form_body

__all__ = ["ScreenServer", "create_app"]

log = logging.getLogger(__name__)

_SHOWN = 120  # findings that page and API look back on
_STREAMS = 32  # pages that may listen at once
_FORM_BYTES = 1000
_COOKIE = "scanwright"
_ID = re.compile(r"[0-9a-f]{32}")


class _Screen:
    """The endpoints."""

    def __init__(
        self,
        store: Store,
        config: AgentConfig,
        bundles: Sequence[BundleRef],
        connected: Callable[[], bool],
        closing: threading.Event,
        lock: Lock | None,
        cases: Cases | None,
        health: Callable[[], Health] | None,
        trouble: Callable[[], str | None],
        identifying: Callable[[], bool],
        stick: Callable[[], Stick | None],
    ) -> None:
        self._store, self._trouble, self._stick = store, trouble, stick
        self._identifying = identifying
        self._config = config
        self._unsigned = not all(bundle.signed for bundle in bundles)
        self._connected = connected
        self._health = health
        self._bundles = bundles
        self._texts = load_texts(config.language)
        self._streams = EventStreams(lambda: run_in_threadpool(self.state), closing, _STREAMS)
        self._lock = lock
        self._cases = cases

    def state(self) -> dict[str, Any]:
        """What a page compares to see that it is out of date."""
        return {
            "sequence": self._store.sequence(),
            "connected": self._connected(),
            "waiting": self._store.waiting(),
            "trouble": self._trouble(),
            "stick": (stick := self._stick()) and asdict(stick),
            "identifying": self._identifying(),
        }

    def page(self, request: Request) -> Response:
        wanted = request.query_params.get("finding", "")
        stored = self._store.get(wanted) if _ID.fullmatch(wanted) else None
        latest = self._store.latest(_SHOWN, pictures=False)
        if stored is None and latest:
            stored = self._store.get(latest[0].id)
        findings, chosen = [parse(row) for row in latest], parse(stored) if stored else None
        view = View(
            site=self._config.site,
            device=self._config.device,
            language=self._config.language,
            findings=findings,
            chosen=chosen,
            image=bool(stored and stored.image),
            overlay=bool(stored and stored.overlay),
            connected=self._connected(),
            waiting=self._store.waiting(),
            unsigned=self._unsigned,
            trouble=self._trouble(),
            stick=self._stick(),
            identifying=self._identifying(),
            lockable=self._lock is not None and _at_the_cart(request),
            patients=self._patients(request, chosen),
            verdict=stored.verdict if stored else None,
        )
        return HTMLResponse(render(view, self._texts))

    def _patients(self, request: Request, chosen: Finding | None) -> Patients | None:
        """Whose the shown study is, to a session that gave the PIN at the cart itself."""
        if self._lock is None or self._cases is None or not _at_the_cart(request):
            return None
        opened = self._lock.opened(request.cookies.get(_COOKIE))
        if opened is None:
            return None
        known: dict[str, list[Patient] | None] = {}
        if chosen:
            try:
                known[chosen.study] = self._cases.of(chosen.study)
            except VaultError:
                known[chosen.study] = None
        return Patients(known, opened.until)

    async def unlock(self, request: Request) -> Response:
        """The pad; given the right PIN, the finding again, with whose it is."""
        if self._lock is None or not _at_the_cart(request):
            return PlainTextResponse("there is no PIN to be given here\n", status_code=404)
        if request.method == "GET":
            wanted = request.query_params.get("finding", "")
            return self._pad(wanted)
        given = await _form(request)
        if given is None:
            return PlainTextResponse("not from here\n", status_code=403)
        opened = await run_in_threadpool(self._lock.open, given.get("pin", ""))
        wanted = given.get("finding", "")
        if opened is None:
            log.warning("a wrong PIN was given at the screen")
            return self._pad(wanted, "pin.wrong")
        answer = RedirectResponse(f"/?finding={wanted}" if _ID.fullmatch(wanted) else "/", status_code=303)
        answer.set_cookie(_COOKIE, opened.token, max_age=int(OPEN_S), httponly=True, samesite="strict")
        return answer

    def _pad(self, wanted: str, problem: str | None = None) -> Response:
        assert self._lock
        wait = self._lock.wait_s()
        said = self._texts["pin.wait"].format(n=math.ceil(wait)) if wait else problem and self._texts[problem]
        finding = wanted if _ID.fullmatch(wanted) else ""
        status = 429 if wait else 403 if problem else 200
        return HTMLResponse(render_unlock(self._config, finding, self._texts, said), status_code=status)

    async def lock(self, request: Request) -> Response:
        """Close the session's lock."""
        if self._lock is None or await _form(request) is None:
            return PlainTextResponse("not from here\n", status_code=403)
        self._lock.close(request.cookies.get(_COOKIE))
        answer = RedirectResponse("/", status_code=303)
        answer.delete_cookie(_COOKIE, httponly=True, samesite="strict")
        return answer

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
        return self._streams.answer()

    def metrics(self, request: Request) -> Response:
        if self._health is None:
            return PlainTextResponse("no agent runs here\n", status_code=404)
        text = metrics.exposition(self._health(), self._connected(), self._config, self._bundles)
        return Response(text, media_type=CONTENT_TYPE)

    def health(self, request: Request) -> Response:
        self._store.sequence()
        return PlainTextResponse("ok\n")


def _at_the_cart(request: Request) -> bool:
    """Whether the page is asked for on the cart itself: names never travel over a network in clear.

    The host's name too, or a page from elsewhere could have its own name lead here (DNS rebinding).
    """
    if request.client is None or request.url.hostname not in ("localhost", "127.0.0.1", "::1"):
        return False
    return ip_address(request.client.host).is_loopback


async def _form(request: Request) -> dict[str, str] | None:
    """A short form that a page of this server sent; None for any other."""
    body = await form_body(request, _FORM_BYTES)
    return None if body is None else dict(parse_qsl(body.decode("ascii", "replace")))


def create_app(
    store: Store,
    config: AgentConfig,
    bundles: Sequence[BundleRef] = (),
    connected: Callable[[], bool] = lambda: False,
    closing: threading.Event | None = None,
    lock: Lock | None = None,
    cases: Cases | None = None,
    health: Callable[[], Health] | None = None,
    trouble: Callable[[], str | None] = lambda: None,
    identifying: Callable[[], bool] = lambda: False,
    stick: Callable[[], Stick | None] = lambda: None,
) -> Starlette:
    """The application: ``/``, ``/api/findings``, ``/api/events``, ``/image/<id>.png``, ``/overlay/<id>.png``
    and ``/healthz``, all of them GET; and, for the PIN, ``/unlock`` and ``/lock``.

    Args:
        store: the agent's.
        config: names, and the language of the texts.
        bundles: those in use; one that is not signed is said on every page.
        connected: whether the broker is reached, from any thread.
        closing: ends the event streams when set, so that a server can stop.
        lock: of the patients' names; without it they are never shown.
        cases: whose the studies are.
        health: how the device is, from any thread, for ``/metrics``; without it there is none.
        trouble, identifying: see :class:`edge.agent.page.View`; from any thread.
        stick: the courier's, where one is in.
    """
    closing = closing or threading.Event()
    screen = _Screen(
        store, config, bundles, connected, closing, lock, cases, health, trouble, identifying, stick
    )
    return Starlette(
        routes=[
            Route("/", screen.page),
            Route("/unlock", screen.unlock, methods=["GET", "POST"]),
            Route("/lock", screen.lock, methods=["POST"]),
            Route("/api/findings", screen.findings),
            Route("/api/events", screen.events),
            Route("/image/{id}.png", screen.image),
            Route("/overlay/{id}.png", screen.overlay),
            Route("/healthz", screen.health),
            Route("/metrics", screen.metrics),
            Mount("/static", StaticFiles(directory=Path(edge.web.__file__).parent / "static")),
        ],
        middleware=[Middleware(SecurityHeaders)],
    )


class ScreenServer(WebServer):
    """The screen, served from a thread of its own."""

    def __init__(
        self,
        store: Store,
        config: AgentConfig,
        screen: ScreenConfig,
        bundles: Sequence[BundleRef],
        connected: Callable[[], bool],
        cases: Cases | None = None,
        health: Callable[[], Health] | None = None,
        trouble: Callable[[], str | None] = lambda: None,
        stick: Callable[[], Stick | None] = lambda: None,
    ) -> None:
        """Take the port (``screen.port`` 0: a free one).

        Raises:
            BadInputError: ``screen.pin_file`` cannot be used.
            ScanwrightError: it cannot be taken.
        """
        self._identify_until = float("-inf")
        closing = threading.Event()
        app = create_app(
            store,
            config,
            bundles,
            connected,
            closing,
            Lock(read_pin(screen.pin_file)) if screen.pin_file else None,
            cases,
            health,
            trouble,
            lambda: time.monotonic() < self._identify_until,
            stick,
        )
        try:
            super().__init__(app, screen.host, screen.port, closing, "screen")
        except OSError as error:
            raise ScanwrightError(
                f"screen: cannot listen on {screen.host}:{screen.port} ({error.strerror}); "
                "choose another screen.port"
            ) from error

    def identify(self, seconds: float) -> None:
        """Show the cart's name, large and blinking, for so long. From any thread."""
        self._identify_until = time.monotonic() + seconds
