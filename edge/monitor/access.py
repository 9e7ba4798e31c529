"""Who comes to the page: sessions, roles, forms of our own pages only, and no guessing of passwords."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl, quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from edge.monitor.store import accounts, audit
from edge.monitor.store.accounts import Account, Role, Session
from edge.monitor.store.database import Database, UnavailableError
from edge.monitor.view import FleetView
from edge.web.catalogue import languages, load_texts
from edge.web.server import form_body

__all__ = ["COOKIE", "Tries", "Visit", "guarded", "visit_of"]

COOKIE = "session"
_FORM_BYTES = 20_000
_TRIES, _WAIT_S, _LONGEST_S = 5, 15.0, 900.0  # wrong passwords that cost no time; then doubling waits
_REMEMBERED = 10_000
_REMEMBERED_S = 3600.0  # a session, while the store is away


class Tries:
    """Wrong passwords cost time, for the name and for the address that gave them."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, *keys: str) -> float:
        """How long until a password is looked at again; 0 when one may be given."""
        now = self._monotonic()
        return max(0.0, *(self._wrong.get(key, (0, 0.0))[1] - now for key in keys))

    def wrong(self, *keys: str) -> None:
        """A wrong password was given."""
        for key in keys:
            n = self._wrong.get(key, (0, 0.0))[0] + 1
            wait = min(_LONGEST_S, _WAIT_S * 2 ** (n - _TRIES)) if n >= _TRIES else 0.0
            self._wrong[key] = (n, self._monotonic() + wait)
            self._wrong.move_to_end(key)
        while len(self._wrong) > _REMEMBERED:
            self._wrong.popitem(last=False)

    def right(self, *keys: str) -> None:
        """The right one was given."""
        for key in keys:
            self._wrong.pop(key, None)


@dataclass(frozen=True)
class Visit:
    """One request of somebody who may make it: all that an endpoint needs."""

    request: Request
    database: Database
    view: FleetView
    account: Account
    csrf: str
    language: str
    theme: str
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def texts(self) -> Mapping[str, str]:
        """The catalogue of the visitor's language."""
        return load_texts(self.language, "fleet")

    def t(self, key: str, **values: object) -> str:
        """A text of the monitor's part of the catalogue, with its values."""
        text = self.texts[f"fleet.{key}"]
        return text.format(**values) if values else text

    def query(self, name: str) -> str | None:
        """A parameter of the address; None where it is missing or empty."""
        return self.request.query_params.get(name, "").replace("\x00", "") or None

    def write(self, action: Callable[[Any], Any], kind: str, **said: Any) -> Any:
        """Do something and put it into the audit trail, both or neither.

        Raises:
            UnavailableError: the store cannot be written for now.
        """

        def both(connection: Any) -> Any:
            result = action(connection)
            audit.append(connection, self.database, self.account.name, kind, said, time.time())
            return result

        return self.database.write(both).result()


Endpoint = Callable[[Visit], Response]


def visit_of(request: Request, account: Account, csrf: str, form: Mapping[str, str]) -> Visit:
    """The visit of a request, in the language and the light that its cookies ask for."""
    language = request.cookies.get("language", "")
    if language not in languages():
        language = _accepted(request.headers.get("accept-language", ""))
    theme = "dark-room" if request.cookies.get("theme") == "dark-room" else "auto"
    state = request.app.state
    return Visit(request, state.database, state.view, account, csrf, language, theme, form)


def guarded(role: Role, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for those who have a role; a form must come from a page of this server and session."""

    async def answer(request: Request) -> Response:
        try:
            return await _answer(request, role, endpoint)
        except UnavailableError as error:
            return PlainTextResponse(f"{error}; try again in a moment\n", status_code=503)

    return answer


async def _answer(request: Request, role: Role, endpoint: Endpoint) -> Response:
    token = request.cookies.get(COOKIE, "")
    session = await run_in_threadpool(_session, request.app.state, request.method, token) if token else None
    if session is None:
        if request.method != "GET" or request.url.path.startswith("/api/"):
            return PlainTextResponse("log in first\n", status_code=401)
        there = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(there)}" if there != "/" else "/login", status_code=303)
    form: Mapping[str, str] = {}
    if request.method == "POST":
        given = await read_form(request)
        if given is None or not hmac.compare_digest(given.get("csrf", ""), session.csrf):
            return PlainTextResponse("this form is not from here; load the page again\n", status_code=403)
        form = given
    visit = visit_of(request, session.account, session.csrf, form)
    if not session.account.may(role):
        refused = f"{session.account.name} is {session.account.role}; this needs {role}\n"
        if request.method == "POST":
            await run_in_threadpool(visit.write, lambda _: None, "refused", path=request.url.path, needs=role)
        return PlainTextResponse(refused, status_code=403)
    return await run_in_threadpool(endpoint, visit)


def _session(state: Any, method: str, token: str) -> Session | None:
    """The session of a token. While the store is away those that were seen lately may still look: the fleet's
    page then shows what was known last."""
    now, seen = time.time(), state.sessions
    try:
        session = accounts.of_token(state.database, token, now)
    except UnavailableError:
        known, at = seen.get(token, (None, 0.0))
        if method != "GET" or known is None or now - at > _REMEMBERED_S:
            raise
        return cast(Session, known)
    if session is None:
        seen.pop(token, None)
    else:
        seen[token] = (session, now)
        seen.move_to_end(token)
        while len(seen) > _REMEMBERED:
            seen.popitem(last=False)
    return session


async def read_form(request: Request) -> dict[str, str] | None:
    """A short form that a page of this server sent; None for any other."""
    body = await form_body(request, _FORM_BYTES)
    if body is None:
        return None
    try:
        fields = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=50)
    except ValueError:  # more fields than any page of ours has
        return None
    # A field that is there more than once, as check boxes are, is its values, one a line.
    form: dict[str, str] = {}
    for name, value in fields:
        form[name] = f"{form[name]}\n{value}" if name in form else value
    return form


def _accepted(header: str) -> str:
    """The first language of an Accept-Language header that there is a catalogue of; else English."""
    for part in header.split(","):
        code = part.split(";")[0].strip().split("-")[0].lower()
        if code in languages():
            return code
    return "en"
