"""One cart: why it needs a visit, how it has been, what it found and told, and commands to it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element

from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from edge.monitor.access import Visit
from edge.monitor.pages.findings import listed
from edge.monitor.pages.layout import ago, badge, form, link, reason_text, shown, span, when
from edge.monitor.store import commands, fleet
from edge.web.html import Child, tag

__all__ = ["cart", "command", "health"]

_EVENTS, _FINDINGS, _COMMANDS = 30, 12, 8
_PLOTTED_S = 30 * 86400.0
_GAP_S = 2 * 3600
_PLOTS = ("temperature_celsius", "disk_free_mb", "backlog", "inference_ms", "memory_mb", "load")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_LINES = 200
_SIMPLE = ("identify", "selftest", "log")


def cart(visit: Visit) -> Response:
    """The page ``/cart/<site>/<device>``."""
    site, device = _named(visit)
    row = fleet.device(visit.database, site, device)
    if row is None:
        return PlainTextResponse("no such cart\n", status_code=404)
    now = time.time()
    wanted = fleet.Filter(site=site, device=device, test=True)
    body: list[Child] = [
        _head(visit, row, now),
        _orders(visit, row) if visit.account.may("engineer") else None,
        _answers(visit, commands.of_device(visit.database, site, device, _COMMANDS), now),
        _plots(visit, site, device),
        tag(
            "section",
            tag("h2", visit.t("cart.findings")),
            listed(visit, fleet.findings(visit.database, wanted, _FINDINGS), short=True),
            tag(
                "p", tag("a", visit.t("cart.all_findings"), href=link("/findings", site=site, device=device))
            ),
            class_="panel",
        ),
        _events(visit, fleet.events(visit.database, _EVENTS, site, device)),
    ]
    return shown(visit, "fleet", f"{device} · {site}", *body, scripts=("uplot", "cart"))


def health(visit: Visit) -> Response:
    """Samples of the cart's health for the plots, as columns."""
    site, device = _named(visit)
    at: list[int] = []
    columns: dict[str, list[float | None]] = {name: [] for name in _PLOTS}
    for row in fleet.samples(visit.database, site, device, time.time() - _PLOTTED_S):
        if at and row.at - at[-1] > _GAP_S:  # nothing was heard: no line is drawn over it
            at.append(at[-1] + 1)
            for values in columns.values():
                values.append(None)
        at.append(row.at)
        for name, values in columns.items():
            values.append(getattr(row, name))
    return JSONResponse({"at": at, **columns})


def command(visit: Visit) -> Response:
    """Have a command sent to the cart."""
    site, device = _named(visit)
    name = visit.form.get("command", "")
    if fleet.device(visit.database, site, device) is None:
        return PlainTextResponse("no such cart\n", status_code=404)
    arguments = _arguments(name, visit.form)
    if arguments is None:
        return PlainTextResponse("no such command, or not with these arguments\n", status_code=400)
    actor, now = visit.account.name, time.time()

    def order(connection: Any) -> str:
        return commands.order(connection, visit.database, site, device, name, arguments, actor, now)

    visit.write(order, "command", site=site, device=device, command=name, **arguments)
    return RedirectResponse(f"/cart/{site}/{device}#answers", status_code=303)


def _named(visit: Visit) -> tuple[str, str]:
    parameters = visit.request.path_params
    return parameters["site"], parameters["device"]


def _arguments(name: str, given: Any) -> dict[str, commands.Scalar] | None:
    """The arguments of a command; None where it cannot be sent."""
    if name in _SIMPLE:
        return {"lines": _LINES} if name == "log" else {}
    slot, version = given.get("name", "").strip(), given.get("version", "").strip()
    if not slot:
        return None
    if name == "rollback":
        return {"name": slot}
    if name == "update" and (not version or _VERSION.fullmatch(version)):
        return {"name": slot} | ({"version": version} if version else {})
    return None


def _head(visit: Visit, row: Any, now: float) -> Element:
    found = visit.view.cart(row.site, row.device)
    reasons = list(found.reasons) if found else []
    listed_ = [
        tag("li", badge(visit, reason.level), " ", reason_text(visit, reason)) for reason in reasons
    ] or [tag("li", badge(visit, None))]
    facts = _facts(visit, row, now)
    state = visit.t("online" if row.online else "offline")
    return tag(
        "section",
        tag(
            "div",
            tag("h1", tag("bdi", row.device)),
            tag("a", tag("bdi", row.site), href=link("/", site=row.site)),
            tag("span", state, class_="link online" if row.online else "link offline"),
            class_="title",
        ),
        tag("ul", listed_, class_="reasons"),
        tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts), class_="facts"),
        class_="panel",
    )


def _facts(visit: Visit, row: Any, now: float) -> list[tuple[str, Child]]:
    t = visit.t
    birth = json.loads(row.birth) if row.birth else {}
    facts: list[tuple[str, Child]] = [
        (t("column.last_good"), [ago(visit, row.last_good, now), " ", row.last_good_case]),
        (t("column.heard"), ago(visit, row.last_heard, now)),
        (t("column.model"), tag("bdi", row.bundles or "–")),
        (t("fact.agent"), tag("bdi", row.agent_version or "–")),
        (t("fact.target"), tag("bdi", row.target or "–")),
        (t("fact.interpreter"), tag("bdi", birth.get("interpreter") or "–")),
    ]
    if row.certificate_days is not None:
        facts.append((t("fact.certificate"), span(visit, row.certificate_days * 86400)))
    if row.disk_free_mb is not None:
        facts.append((t("column.storage"), t("gigabytes", n=f"{row.disk_free_mb / 1000:.1f}")))
    if row.backlog is not None:
        facts.append((t("column.backlog"), f"{row.backlog:.0f}"))
    if row.temperature_celsius is not None:
        facts.append((t("column.temperature"), t("celsius", n=f"{row.temperature_celsius:.0f}")))
    if row.clock_off_s is not None:
        facts.append((t("fact.clock"), t("clock.off", n=span(visit, row.clock_off_s))))
    return facts


def _orders(visit: Visit, row: Any) -> Element:
    """Buttons and what they need; a cart that is away gets no command: it would come too late."""
    action = f"/cart/{row.site}/{row.device}/command"
    away = not row.online
    simple = [
        form(
            visit,
            action,
            tag("input", type="hidden", name="command", value=name),
            tag("button", visit.t(f"order.{name}"), disabled=away, title=visit.t(f"order.{name}.about")),
        )
        for name in _SIMPLE
    ]
    slots = [*sorted({one.rpartition(" ")[0] for one in (row.bundles or "").split(", ") if one}), "agent"]

    def choice(id_: str) -> Element:
        options = [tag("option", slot, value=slot) for slot in slots]
        return tag("select", options, name="name", id=id_, disabled=away)

    update = form(
        visit,
        action,
        tag("input", type="hidden", name="command", value="update"),
        tag("label", tag("span", visit.t("order.of")), choice("update-of")),
        tag(
            "label",
            tag("span", visit.t("order.version")),
            tag(
                "input",
                name="version",
                pattern=r"\d+\.\d+\.\d+",
                placeholder=visit.t("order.newest"),
                size=8,
                disabled=away,
            ),
        ),
        tag("button", visit.t("order.update"), disabled=away),
    )
    back = form(
        visit,
        action,
        tag("input", type="hidden", name="command", value="rollback"),
        tag("label", tag("span", visit.t("order.of")), choice("rollback-of")),
        tag("button", visit.t("order.rollback"), disabled=away),
    )
    return tag(
        "section",
        tag("h2", visit.t("cart.orders")),
        tag("p", visit.t("order.away"), class_="quiet") if away else None,
        tag("div", simple, class_="orders"),
        tag("div", update, back, class_="orders"),
        class_="panel",
    )


def _answers(visit: Visit, rows: Sequence[Any], now: float) -> Element | None:
    if not rows:
        return None
    items = []
    for row in rows:
        if row.answered_at is None:
            state, kind = visit.t("answer.waiting" if row.sent_at else "answer.queued"), "waiting"
        elif row.ok:
            state, kind = visit.t("answer.ok"), "ok"
        else:
            state, kind = visit.t("answer.refused"), "refused"
        said = {name: value for name, value in json.loads(row.arguments).items() if name != "lines"}
        detail: Child = None
        if row.error:
            detail = tag("p", tag("bdi", row.error), class_="error")
        elif row.ok and (result := json.loads(row.result or "{}")):
            detail = _result(visit, result)
        items.append(
            tag(
                "li",
                tag(
                    "b",
                    visit.t(f"order.{row.name}")
                    if row.name in (*_SIMPLE, "update", "rollback")
                    else row.name,
                ),
                tag("bdi", " ".join(str(value) for value in said.values())),
                tag("span", state, class_=f"state {kind}"),
                tag("small", row.ordered_by, " · ", ago(visit, row.ordered_at, now)),
                detail,
            )
        )
    return tag(
        "section",
        tag("h2", visit.t("cart.answers")),
        tag("ul", items, class_="answers"),
        class_="panel",
        id="answers",
    )


def _result(visit: Visit, result: dict[str, Any]) -> Child:
    """What a cart answered: its log and failed lines as they are, the rest as pairs."""
    long = {name: value for name, value in result.items() if isinstance(value, str) and "\n" in value}
    short = {name: value for name, value in result.items() if name not in long}
    pairs = [
        tag("div", tag("dt", name), tag("dd", tag("bdi", json.dumps(value, ensure_ascii=False).strip('"'))))
        for name, value in short.items()
    ]
    texts = [
        tag(
            "details",
            tag("summary", visit.t("answer.show", name=name)),
            tag("pre", value, tabindex="0", dir="ltr"),
        )
        for name, value in long.items()
    ]
    return [tag("dl", pairs, class_="facts") if pairs else None, texts]


def _plots(visit: Visit, site: str, device: str) -> Element:
    boxes = [
        tag(
            "figure",
            tag("figcaption", visit.t(f"plot.{name}")),
            tag("div", class_="plot", data_column=name, role="img", aria_label=visit.t(f"plot.{name}")),
        )
        for name in _PLOTS
    ]
    source = f"/api/cart/{site}/{device}/health"
    return tag(
        "section",
        tag("h2", visit.t("cart.health")),
        tag("div", boxes, class_="plots", data_source=source, data_none=visit.t("plot.none")),
        class_="panel",
        id="plots",
        data_keep=True,
    )


def _events(visit: Visit, rows: Sequence[Any]) -> Element:
    items = [
        tag(
            "li",
            tag("span", visit.t(f"severity.{row.severity}"), class_=f"state {row.severity}"),
            when(row.at),
            tag("code", row.code),
            tag("bdi", row.message),
            tag("small", visit.t("event.monitor")) if row.origin == "monitor" else None,
        )
        for row in rows
    ]
    listed_ = tag("ul", items, class_="events") if items else tag("p", visit.t("event.none"), class_="quiet")
    return tag("section", tag("h2", visit.t("cart.events")), listed_, class_="panel")
