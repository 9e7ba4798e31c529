"""Rollouts: where each stands, what became of every cart, and the hand on the brake."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal
from xml.etree.ElementTree import Element

from pydantic import ValidationError
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from edge.errors import BadInputError
from edge.monitor import rollouts as engine
from edge.monitor.access import Visit
from edge.monitor.pages.layout import ago, form, shown
from edge.monitor.rollout import OPEN, Plan
from edge.web.html import Child, tag

__all__ = ["change", "rollouts", "start"]

_VERSION = re.compile(r"\d+\.\d+\.\d+", re.ASCII)
_MEMBERS = ("done", "ordered", "waiting", "failed", "excused")
_TO: dict[str, Literal["running", "paused", "aborted"]] = {
    "pause": "paused",
    "resume": "running",
    "abort": "aborted",
}


def rollouts(visit: Visit) -> Response:
    """The page ``/rollouts``."""
    return _page(visit, None)


def start(visit: Visit) -> Response:
    """Begin a rollout."""
    given = visit.form
    version = given.get("version", "").strip()
    if not _VERSION.fullmatch(version):
        return _page(visit, visit.t("rollout.bad_version"), 400)
    try:
        shares = tuple(float(part) / 100 for part in given.get("stages", "").replace(",", " ").split())
        plan = Plan(stages=shares, wait_s=float(given.get("wait", "24")) * 3600)
    except (ValueError, ValidationError):
        return _page(visit, visit.t("rollout.bad_plan"), 400)
    try:
        engine.start(
            visit.database,
            given.get("bundle", ""),
            version,
            given.get("site", ""),
            plan,
            visit.account.name,
            time.time(),
        )
    except BadInputError as error:
        return _page(visit, str(error), 409)
    return RedirectResponse("/rollouts", status_code=303)


def change(visit: Visit) -> Response:
    """Pause, resume or abort one."""
    to = _TO.get(visit.form.get("do", ""))
    if to is None:
        return PlainTextResponse("no such change\n", status_code=400)
    id_ = visit.request.path_params["id"]
    try:
        engine.change(visit.database, id_, to, visit.account.name, time.time())
    except BadInputError as error:
        return _page(visit, str(error), 409)
    return RedirectResponse("/rollouts", status_code=303)


def _page(visit: Visit, problem: str | None, status: int = 200) -> Response:
    found = sorted(engine.views(visit.database), key=lambda view: (view.state not in OPEN, -view.created))
    now = time.time()
    body: list[Child] = [_rollout(visit, view, now) for view in found]
    if not found:
        text = tag("p", visit.t("rollout.none_text"), class_="quiet")
        body.append(tag("section", tag("h2", visit.t("rollout.none")), text, class_="empty"))
    answer = shown(
        visit,
        "rollouts",
        visit.t("nav.rollouts"),
        tag("h1", visit.t("nav.rollouts")),
        tag("p", problem, class_="banner warning", role="alert") if problem else None,
        *body,
        _new(visit) if visit.account.may("engineer") else None,
    )
    answer.status_code = status
    return answer


def _rollout(visit: Visit, view: Any, now: float) -> Element:
    counted = Counter(member.state for member in view.members)
    shares = " → ".join(f"{share * 100:g}%" for share in view.plan.stages)
    states = [
        tag("li", tag("b", str(counted[state])), " ", visit.t(f"rollout.member.{state}"))
        for state in _MEMBERS
        if counted[state]
    ]
    failed = [
        tag(
            "li",
            tag("a", tag("bdi", f"{m.site}/{m.device}"), href=f"/cart/{m.site}/{m.device}"),
            " ",
            m.detail,
        )
        for m in view.members
        if m.state == "failed"
    ]
    kind = {"halted": "refused", "done": "ok"}.get(view.state, "waiting")
    stage = visit.t("rollout.stage", n=view.stage + 1, all=len(view.plan.stages))
    return tag(
        "section",
        tag(
            "div",
            tag(
                "h2",
                tag("bdi", f"{view.bundle} {view.version}"),
                " · ",
                view.site or visit.t("fleet.all_sites"),
            ),
            tag("span", visit.t(f"rollout.{view.state}"), class_=f"state {kind}"),
            tag("span", f"{stage} ({shares})", class_="quiet"),
            _buttons(visit, view) if visit.account.may("engineer") else None,
            class_="title",
        ),
        _bar(counted, len(view.members)),
        tag("ul", states, class_="rollout-carts"),
        tag("p", tag("bdi", view.why)) if view.why else None,
        tag("ul", failed, class_="reason-note") if failed else None,
        tag("small", tag("bdi", view.created_by), " · ", ago(visit, view.created, now)),
        class_="panel",
        id=view.id,
    )


def _bar(counted: Counter[str], total: int) -> Element:
    at, parts = 0.0, []
    for state in ("done", "ordered", "failed"):
        width = 100 * counted[state] / max(1, total)
        parts.append(tag("rect", x=f"{at:.2f}", width=f"{width:.2f}", height="1", class_=state))
        at += width
    drawn = tag("svg", parts, viewBox="0 0 100 1", preserveAspectRatio="none", aria_hidden="true")
    return tag("div", drawn, class_="progress")


def _buttons(visit: Visit, view: Any) -> Element | None:
    offered: Sequence[str] = ()
    if view.state == "running":
        offered = ("pause", "abort")
    elif view.state in OPEN:
        offered = ("resume", "abort")
    if not offered:
        return None
    made = [tag("button", visit.t(f"rollout.{name}"), name="do", value=name) for name in offered]
    return form(visit, f"/rollouts/{view.id}", made, class_="orders")


def _new(visit: Visit) -> Element:
    bundles = sorted(
        {
            one.rpartition(" ")[0]
            for cart in visit.view.carts
            for one in (cart.row.bundles or "").split(", ")
            if one
        }
    )

    def choice(name: str, key: str, options: Sequence[Element]) -> Element:
        return tag("label", tag("span", visit.t(key)), tag("select", options, name=name, id=f"new-{name}"))

    def entry(name: str, key: str, **attributes: str | int | bool) -> Element:
        return tag(
            "label", tag("span", visit.t(key)), tag("input", name=name, id=f"new-{name}", **attributes)
        )

    every = tag("option", visit.t("fleet.all_sites"), value="")
    sites = [tag("option", site, value=site) for site in visit.view.sites]
    return tag(
        "section",
        tag("h2", visit.t("rollout.new")),
        form(
            visit,
            "/rollouts",
            choice("bundle", "rollout.bundle", [tag("option", name, value=name) for name in bundles]),
            entry("version", "order.version", required=True, pattern=r"\d+\.\d+\.\d+", size=8),
            choice("site", "filter.site", [every, *sites]),
            entry("stages", "rollout.stages", value="5, 25, 100", required=True, size=12),
            entry(
                "wait", "rollout.wait", value="24", type="number", min=0, step="any", size=5, required=True
            ),
            tag("button", visit.t("rollout.start"), class_="primary"),
            class_="filters",
        ),
        class_="panel",
    )
