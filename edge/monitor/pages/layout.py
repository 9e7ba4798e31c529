"""What all pages have in common: the frame around them, times, levels, forms."""

from __future__ import annotations

from datetime import datetime, timezone
from urllib.parse import urlencode
from xml.etree.ElementTree import Element

from starlette.responses import HTMLResponse

from edge.monitor.access import Visit
from edge.monitor.attention import Level, Reason
from edge.monitor.store.accounts import Role
from edge.web.catalogue import languages
from edge.web.html import Child, page, tag

__all__ = [
    "ago",
    "badge",
    "decision",
    "document",
    "form",
    "frame",
    "icon",
    "icons",
    "link",
    "percent",
    "reason_text",
    "shown",
    "span",
    "when",
]

_PAGES: tuple[tuple[str, str, Role], ...] = (
    ("fleet", "/", "viewer"),
    ("findings", "/findings", "viewer"),
    ("review", "/review", "reviewer"),
    ("accuracy", "/accuracy", "viewer"),
    ("drift", "/drift", "viewer"),
    ("rollouts", "/rollouts", "viewer"),
    ("audit", "/audit", "engineer"),
)
_NAMES = {"en": "English", "zh": "中文", "fr": "Français", "es": "Español", "ar": "العربية"}
# By shape as well as by colour: in 24 x 24.
_ICONS = {
    "visit": "M12 2.5 22.5 21h-21zM12 9.5v5.5M12 17.6v.6",
    "look": "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18zM12 7v6M12 16.2v.6",
    "note": "M4 12h16",
    "fine": "M12 2a10 10 0 1 0 0 20a10 10 0 1 0 0-20zM7 12.4l3.4 3.4L17 9",
    "positive": "M12 2.5 22.5 21h-21zM12 9.5v5.5M12 17.6v.6",
    "negative": "M12 2a10 10 0 1 0 0 20a10 10 0 1 0 0-20zM7 12.4l3.4 3.4L17 9",
    "no_result": "M12 2a10 10 0 1 0 0 20a10 10 0 1 0 0-20"
    "M9.1 9a3 3 0 1 1 4.2 2.8c-.9.5-1.3 1-1.3 2.2M12 17.2v.6",
}


def document(visit: Visit, title: str, scripts: tuple[str, ...] = ()) -> Element:
    """The start of a page, up to its head, in the visitor's language and colours."""
    html = tag("html", lang=visit.language, dir=visit.texts["direction"], data_theme=visit.theme)
    styles = ["style", "monitor"] + (["uplot"] if "uplot" in scripts else [])
    html.append(
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="dark light"),
            tag("title", title),
            tag("link", rel="icon", href="/static/icon.svg", type="image/svg+xml"),
            *(tag("link", rel="stylesheet", href=f"/static/{style}.css") for style in styles),
            *(tag("script", src=f"/static/{script}.js", defer=True) for script in scripts),
        )
    )
    return html


def frame(visit: Visit, name: str, title: str, *children: Child, scripts: tuple[str, ...] = ()) -> str:
    """A whole page. ``name`` is its place in the navigation; ``scripts`` are files of its own."""
    texts = visit.texts
    html = document(visit, f"{title} · scanwright", ("monitor", *scripts))
    body = tag("body", icons(), tag("a", visit.t("skip"), href="#main", class_="skip"))
    body.append(_top(visit, name))
    trouble = visit.view.problem
    body.append(
        tag(
            "div",
            tag("p", visit.t("lost"), class_="banner lost", role="alert"),
            tag("p", visit.t("trouble"), class_="banner warning", role="alert") if trouble else None,
            id="banners",
        )
    )
    body.append(tag("main", *children, id="main", data_page=name))
    body.append(tag("footer", tag("p", texts["banner.support"])))
    body.append(tag("p", id="announce", role="status", aria_live="polite"))
    html.append(body)
    return page(html)


def shown(
    visit: Visit, name: str, title: str, *children: Child, scripts: tuple[str, ...] = ()
) -> HTMLResponse:
    """The answer with a page; see :func:`frame`."""
    return HTMLResponse(frame(visit, name, title, *children, scripts=scripts))


def _top(visit: Visit, name: str) -> Element:
    links = [
        tag("li", tag("a", visit.t(f"nav.{key}"), href=href, aria_current="page" if key == name else None))
        for key, href, role in _PAGES
        if visit.account.may(role)
    ]
    here = visit.request.url.path + (f"?{visit.request.url.query}" if visit.request.url.query else "")
    dark = visit.theme == "dark-room"
    settings = tag(
        "form",
        tag("input", type="hidden", name="next", value=here),
        tag(
            "label",
            tag("span", visit.t("language"), class_="spoken"),
            tag(
                "select",
                *(
                    tag("option", _NAMES[code], value=code, selected=code == visit.language, lang=code)
                    for code in languages()
                ),
                name="language",
                id="language",
            ),
        ),
        tag("button", visit.t("language.set"), class_="scriptless"),
        tag(
            "button",
            visit.t("dark_room"),
            name="theme",
            value="auto" if dark else "dark-room",
            aria_pressed="true" if dark else "false",
            id="dark-room",
        ),
        action="/settings",
        method="get",
        class_="settings",
    )
    who = form(
        visit,
        "/logout",
        tag("span", tag("bdi", visit.account.name), " · ", visit.t(f"role.{visit.account.role}")),
        tag("button", visit.t("logout")),
        class_="who",
    )
    return tag(
        "header",
        tag("a", "scanwright", href="/", class_="brand"),
        tag("nav", tag("ul", links), aria_label=visit.t("nav")),
        settings,
        who,
        id="top",
    )


def icons() -> Element:
    """The symbols that :func:`icon` uses."""
    return tag(
        "svg",
        *(
            tag("symbol", tag("path", d=path), id=f"icon-{name}", viewBox="0 0 24 24")
            for name, path in _ICONS.items()
        ),
        hidden=True,
        aria_hidden="true",
    )


def icon(name: str) -> Element:
    """A symbol, beside words that say the same."""
    return tag("svg", tag("use", href=f"#icon-{name}"), class_="icon", aria_hidden="true")


def form(visit: Visit, action: str, *children: Child, class_: str | None = None) -> Element:
    """A form that is sent from here."""
    hidden = tag("input", type="hidden", name="csrf", value=visit.csrf)
    return tag("form", hidden, *children, action=action, method="post", class_=class_)


def link(path: str, **query: object) -> str:
    """An address of ours with those parameters that are something."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


def badge(visit: Visit, level: Level | None) -> Element:
    """How urgent a cart is, by shape, colour and word."""
    name = "fine" if level is None else level.name.lower()
    return tag("span", icon(name), tag("span", visit.t(f"level.{name}")), class_=f"badge {name}")


def decision(visit: Visit, name: str, label: str | None = None) -> Element:
    """What a finding says, by shape, colour and word."""
    said = tag("bdi", label) if label else tag("span", visit.texts[f"decision.{name}"])
    return tag("span", icon(name), said, class_=f"said {name}")


def reason_text(visit: Visit, reason: Reason) -> str:
    """A reason in words."""
    amount = reason.amount
    if reason.unit == "span":
        return visit.t(f"why.{reason.code}", n=span(visit, float(amount or 0)))
    if isinstance(amount, float | int):
        return visit.t(f"why.{reason.code}", n=f"{amount:.0f}")
    return visit.t(f"why.{reason.code}", n=amount) if amount is not None else visit.t(f"why.{reason.code}")


def span(visit: Visit, seconds: float) -> str:
    """A length of time in one unit."""
    size = abs(seconds)
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if size >= 2 * length or (unit == "minutes" and size >= length):
            return visit.t(f"span.{unit}", n=f"{size / length:.0f}")
    return visit.t("span.seconds", n=f"{size:.0f}")


def ago(visit: Visit, at: float | None, now: float) -> Element:
    """How long ago, with the time itself behind it."""
    if not at:
        return tag("span", "–", class_="none")
    return tag("time", visit.t("ago", n=span(visit, now - at)), datetime=_iso(at), title=_clock(at))


def when(at: float) -> Element:
    """A time, UTC; a browser shows it in its own."""
    return tag("time", _clock(at), datetime=_iso(at), class_="local")


def percent(visit: Visit, share: float | None) -> str:
    """Whole per cent; never a certainty that no model has."""
    if share is None:
        return "–"
    number = ">99" if share > 0.99 else "<1" if share < 0.01 else f"{share * 100:.0f}"
    return visit.texts["percent"].format(n=number)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, timezone.utc):%Y-%m-%d %H:%M} UTC"
