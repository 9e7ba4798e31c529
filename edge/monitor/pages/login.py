"""Coming in and going out, and how the pages look to a visitor."""

from __future__ import annotations

import math
import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from edge.monitor.access import COOKIE, Visit, read_form, visit_of
from edge.monitor.pages.layout import document, icons
from edge.monitor.store import accounts, audit
from edge.monitor.store.accounts import Account
from edge.monitor.store.database import Database, UnavailableError
from edge.web.catalogue import languages
from edge.web.html import page, tag

__all__ = ["login", "logout", "settings"]

_YEAR_S = 365 * 86400


async def login(request: Request) -> Response:
    """The form; given name and password, the page that was asked for."""
    visit = visit_of(request, Account("", "viewer"), "", {})
    try:
        if request.method == "GET":
            return await run_in_threadpool(_form, visit, request.query_params.get("next", ""))
        return await _take(request, visit)
    except UnavailableError as error:
        return PlainTextResponse(f"{error}; try again in a moment\n", status_code=503)


async def _take(request: Request, visit: Visit) -> Response:
    given = await read_form(request)
    if given is None:
        return PlainTextResponse("this form is not from here; load the page again\n", status_code=403)
    name, there = given.get("name", "")[:64], given.get("next", "")
    host = request.client.host if request.client else ""
    tries, keys = request.app.state.tries, (f"name {name}", f"host {host}")
    if wait := tries.wait_s(*keys):
        return await run_in_threadpool(_form, visit, there, visit.t("login.wait", n=math.ceil(wait)), 429)
    async with request.app.state.hashing:  # each takes a core for a while
        account = await run_in_threadpool(accounts.check, visit.database, name, given.get("password", ""))
    if account is None:
        tries.wrong(*keys)
        await run_in_threadpool(_note, visit.database, "login_refused", name, host)
        return await run_in_threadpool(_form, visit, there, visit.t("login.wrong"), 403)
    tries.right(*keys)
    token = await run_in_threadpool(_start, visit.database, account, host)
    answer = RedirectResponse(_own(there), status_code=303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, token, httponly=True, samesite="lax", secure=secure)
    return answer


def _start(database: Database, account: Account, host: str) -> str:
    def write(connection: Any) -> str:
        now = time.time()
        audit.append(connection, database, account.name, "login", {"host": host}, now)
        return accounts.start(connection, database, account, now)

    return database.write(write).result()


def _note(database: Database, kind: str, name: str, host: str) -> None:
    said = {"host": host}
    database.write(lambda c: audit.append(c, database, name[:64], kind, said, time.time())).result()


def _form(visit: Visit, there: str, problem: str | None = None, status: int = 200) -> HTMLResponse:
    known = bool(accounts.listed(visit.database))
    html = document(visit, "scanwright")
    fields = [
        tag("input", type="hidden", name="next", value=there),
        tag("label", visit.t("login.name"), for_="name"),
        tag(
            "input",
            id="name",
            name="name",
            required=True,
            autofocus=True,
            autocomplete="username",
            autocapitalize="none",
            maxlength=64,
        ),
        tag("label", visit.t("login.password"), for_="password"),
        tag(
            "input",
            id="password",
            name="password",
            type="password",
            required=True,
            autocomplete="current-password",
        ),
        tag("p", problem or "", class_="problem", role="alert"),
        tag("button", visit.t("login.in"), class_="primary"),
    ]
    html.append(
        tag(
            "body",
            icons(),
            tag(
                "main",
                tag("h1", "scanwright"),
                tag("p", visit.t("login.title"), class_="quiet"),
                None if known else tag("p", visit.t("login.nobody"), class_="banner warning"),
                tag("form", fields, action="/login", method="post"),
                tag("p", visit.texts["banner.support"], class_="quiet small"),
                class_="login",
            ),
        )
    )
    return HTMLResponse(page(html), status_code=status)


def logout(visit: Visit) -> Response:
    """End the session."""
    token = visit.request.cookies.get(COOKIE, "")
    visit.write(lambda connection: accounts.end(connection, visit.database, token), "logout")
    visit.request.app.state.sessions.pop(token, None)
    answer = RedirectResponse("/login", status_code=303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="lax")
    return answer


def settings(visit: Visit) -> Response:
    """Remember language and light in cookies, and go back."""
    answer = RedirectResponse(_own(visit.query("next") or "/"), status_code=303)
    language, theme = visit.query("language"), visit.query("theme")
    if language in languages():
        answer.set_cookie("language", str(language), max_age=_YEAR_S, samesite="lax")
    if theme in ("auto", "dark-room"):
        answer.set_cookie("theme", str(theme), max_age=_YEAR_S, samesite="lax")
    return answer


def _own(there: str) -> str:
    """An address of this server, whatever was asked for."""
    return there if there.startswith("/") and not there.startswith(("//", "/\\")) else "/"
