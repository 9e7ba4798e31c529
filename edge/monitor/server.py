"""The page's server: which address is what, and the events that keep open pages current."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import OrderedDict
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

import edge.web
from edge.errors import BadInputError, ScanwrightError
from edge.monitor.access import Tries, guarded
from edge.monitor.pages import audit, cart, drift, findings, fleet, login, review, rollouts
from edge.monitor.pages.metrics import metrics_of
from edge.monitor.store.database import Database
from edge.monitor.view import FleetView
from edge.web.server import EventStreams, SecurityHeaders, WebServer

__all__ = ["PageServer", "create_app"]

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

    async def state() -> dict[str, Any]:
        return view.state

    streams = EventStreams(state, closing or threading.Event(), _STREAMS)
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
        Route("/api/events", guarded("viewer", lambda _: streams.answer())),
        Route("/healthz", _healthy),
        Mount("/static", StaticFiles(directory=Path(edge.web.__file__).parent / "static")),
    ]
    if metrics_token is not None:
        routes.append(Route("/metrics", metrics_of(metrics_token)))
    if phone_app is not None:
        routes.append(Route("/phone", lambda _: RedirectResponse("/phone/")))
        routes.append(Mount("/phone", _PhoneFiles(directory=phone_app, html=True)))
    app = Starlette(routes=routes, middleware=[Middleware(SecurityHeaders, strict_transport=True)])
    app.state.database, app.state.view, app.state.tries = database, view, Tries()
    app.state.hashing = asyncio.Semaphore(_HASHING)
    app.state.sessions = OrderedDict()
    return app


class _PhoneFiles(StaticFiles):
    """The phone app: it has a policy of its own, and is kept by the phone."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        from edge.phone.app import POLICY

        answer = super().file_response(*args, **kwargs)
        answer.headers["Content-Security-Policy"] = f"{POLICY}; frame-ancestors 'none'"
        answer.headers["Cache-Control"] = "no-cache"
        return answer


async def _healthy(request: Request) -> Response:
    trouble = request.app.state.view.problem
    return PlainTextResponse(f"{trouble or 'ok'}\n", status_code=503 if trouble else 200)


class PageServer(WebServer):
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
        self.view = FleetView(database)
        closing = threading.Event()
        app = create_app(database, self.view, phone_app, closing, metrics_token)
        try:
            super().__init__(
                app,
                host,
                port,
                closing,
                "page",
                proxy_headers=False,
                ssl_certfile=certificate,
                ssl_keyfile=key,
            )
        except OSError as error:
            raise ScanwrightError(
                f"--port {port}: cannot listen on {host} ({error.strerror}); choose another"
            ) from error

    def start(self) -> None:
        """Serve."""
        self.view.start()
        super().start()

    def stop(self) -> None:
        """End the event streams, answer what was asked, and close the port."""
        super().stop()
        self.view.stop()


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
