"""The page's server: which address is what, and the events that keep open pages current."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

import edge.web
from edge.errors import BadInputError, ScanwrightError
from edge.monitor.access import SecurityHeaders, Tries, Visit, guarded
from edge.monitor.pages import audit, cart, drift, findings, fleet, login, review, rollouts
from edge.monitor.pages.metrics import metrics_of
from edge.monitor.store.database import Database
from edge.monitor.view import FleetView

__all__ = ["PageServer", "create_app"]

_LOOK_S = 0.2  # how often an event stream looks for news
_TICK_S = 5.0  # how often it says that it is alive; the page waits three of these
_STREAMS = 200  # pages that may listen at once
_HASHING = 2  # passwords that are looked at at once: each takes a core and 16 MiB


def create_app(
    database: Database,
    view: FleetView,
    phone_app: Path | None = None,
    closing: threading.Event | None = None,
    metrics_token: Path | None = None,
) -> Starlette:
    """The application. ``phone_app``: a folder that is served under ``/phone/``, to anybody: it holds the
    model, and no findings. ``closing`` ends the event streams when set. ``metrics_token``: a file with what
    ``/metrics`` asks for."""
    routes: list[BaseRoute] = [
        Route("/login", login.login, methods=["GET", "POST"]),
        Route("/logout", guarded("viewer", login.logout), methods=["POST"]),
        Route("/settings", guarded("viewer", login.settings)),
        Route("/", guarded("viewer", fleet.fleet)),
        Route("/cart/{site}/{device}", guarded("viewer", cart.cart)),
        Route("/cart/{site}/{device}/command", guarded("engineer", cart.command), methods=["POST"]),
        Route("/api/cart/{site}/{device}/health", guarded("viewer", cart.health)),
        Route("/findings", guarded("viewer", findings.findings)),
        Route("/findings.csv", guarded("viewer", findings.findings_csv)),
        Route("/findings.fhir.json", guarded("viewer", findings.findings_fhir)),
        Route("/finding/{site}/{device}/{id}", guarded("viewer", findings.finding)),
        Route("/overlay/{site}/{device}/{id}.png", guarded("viewer", findings.overlay)),
        Route("/review", guarded("reviewer", review.review)),
        Route("/review", guarded("reviewer", review.judge), methods=["POST"]),
        Route("/accuracy", guarded("viewer", review.accuracy)),
        Route("/labels.csv", guarded("reviewer", review.labels_csv)),
        Route("/drift", guarded("viewer", drift.drift)),
        Route("/drift", guarded("engineer", drift.anew), methods=["POST"]),
        Route("/rollouts", guarded("viewer", rollouts.rollouts)),
        Route("/rollouts", guarded("engineer", rollouts.start), methods=["POST"]),
        Route("/rollouts/{id}", guarded("engineer", rollouts.change), methods=["POST"]),
        Route("/audit", guarded("engineer", audit.audit)),
        Route("/api/events", _events),
        Route("/healthz", _healthy),
        Mount("/static", StaticFiles(directory=Path(edge.web.__file__).parent / "static")),
    ]
    if metrics_token is not None:
        routes.append(Route("/metrics", metrics_of(metrics_token)))
    if phone_app is not None:
        routes.append(Route("/phone", lambda _: RedirectResponse("/phone/")))
        routes.append(Mount("/phone", _PhoneFiles(directory=phone_app, html=True)))
    app = Starlette(routes=routes, middleware=[Middleware(SecurityHeaders)])
    app.state.database, app.state.view, app.state.tries = database, view, Tries()
    app.state.hashing = asyncio.Semaphore(_HASHING)
    app.state.sessions = OrderedDict()
    app.state.closing, app.state.streams = closing or threading.Event(), 0
    return app


class _PhoneFiles(StaticFiles):
    """The phone app: it has a policy of its own, and is kept by the phone."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        from edge.phone.app import POLICY

        answer = super().file_response(*args, **kwargs)
        answer.headers["Content-Security-Policy"] = f"{POLICY}; frame-ancestors 'none'"
        answer.headers["Cache-Control"] = "no-cache"
        return answer


async def _events(request: Request) -> Response:
    """The state at once, at every change, and every few seconds to say that the monitor lives."""

    def allowed(visit: Visit) -> Response:
        if request.app.state.streams >= _STREAMS:
            return PlainTextResponse("too many pages are listening\n", status_code=503)
        return StreamingResponse(_news(request.app.state), media_type="text/event-stream")

    return await guarded("viewer", allowed)(request)


async def _news(state: Any) -> AsyncIterator[str]:
    state.streams += 1
    try:
        yield "retry: 1000\n\n"
        told, told_at = None, 0.0
        clock = asyncio.get_running_loop().time
        while not state.closing.is_set():
            now = state.view.state
            if now != told or clock() - told_at >= _TICK_S:
                yield f"data: {json.dumps(now)}\n\n"
                told, told_at = now, clock()
            await asyncio.sleep(_LOOK_S)
    finally:
        state.streams -= 1


async def _healthy(request: Request) -> Response:
    trouble = request.app.state.view.problem
    return PlainTextResponse(f"{trouble or 'ok'}\n", status_code=503 if trouble else 200)


class PageServer:
    """The page, served from a thread of its own."""

    def __init__(
        self,
        database: Database,
        host: str,
        port: int,
        certificate: Path | None = None,
        key: Path | None = None,
        phone_app: Path | None = None,
        metrics_token: Path | None = None,
    ) -> None:
        """Take the port (0: a free one). Beyond this machine only by HTTPS.

        Raises:
            BadInputError: what is given does not go together, or cannot be used.
            ScanwrightError: the port cannot be taken.
        """
        if (certificate is None) != (key is None):
            raise BadInputError("--tls-cert and --tls-key go together")
        if certificate is None and not _loopback(host):
            raise BadInputError(f"--host {host}: beyond this machine give --tls-cert and --tls-key")
        if phone_app is not None and not (phone_app / "app.json").is_file():
            raise BadInputError(
                f"--phone-app {phone_app}: is no NAME-app folder; make it by 'scanwright package'"
            )
        if certificate is not None:
            _check_pair(certificate, key)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise ScanwrightError(
                f"--port {port}: cannot listen on {host} ({error.strerror}); choose another"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://{shown}:{self._socket.getsockname()[1]}/"
        self.view = FleetView(database)
        self._closing = threading.Event()
        self._server = uvicorn.Server(
            uvicorn.Config(
                create_app(database, self.view, phone_app, self._closing, metrics_token),
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=2,
                ssl_certfile=certificate,
                ssl_keyfile=key,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="page", daemon=True
        )

    def start(self) -> None:
        """Serve."""
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        self.view.start()
        self._thread.start()

    def stop(self) -> None:
        """End the event streams, answer what was asked, and close the port."""
        self._closing.set()
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self.view.stop()
        self._socket.close()


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _check_pair(certificate: Path, key: Path | None) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:
        why = error.strerror or str(error)
        raise BadInputError(f"--tls-cert {certificate}, --tls-key {key}: cannot be used ({why})") from error
