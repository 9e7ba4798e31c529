"""Review: the next finding to judge, the verdict by one key, and what all verdicts come to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from sqlalchemy import and_, func, select
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse

from edge.monitor.access import Visit
from edge.monitor.accuracy import Field, Share, fields
from edge.monitor.export import label_rows, to_csv
from edge.monitor.pages.findings import detail
from edge.monitor.pages.layout import decision, link, percent, shown
from edge.monitor.pages.verdicts import UnknownVerdictError, buttons, negative, truth
from edge.monitor.store import fleet, reviews
from edge.web.html import Child, tag

__all__ = ["accuracy", "judge", "labels_csv", "review"]

_NEXT = 12
_COUNTED = 1000  # most that wait for a review are counted
_PERIOD_S = 90 * 86400.0
_COLUMNS = ("path", "labels", "patient", "site")


def review(visit: Visit) -> Response:
    """The page ``/review``: one finding, and those that come after it."""
    site = visit.query("site")
    rows = reviews.work(visit.database, _NEXT, site)
    left = reviews.left(visit.database, _COUNTED, site)
    head = tag(
        "div",
        tag("h1", visit.t("nav.review")),
        tag("p", visit.t("review.left", n=f"{left}+" if left == _COUNTED else left), class_="quiet"),
        _sites(visit, site),
        class_="title",
    )
    if not rows:
        done = tag(
            "section",
            tag("h2", visit.t("review.done")),
            tag("p", visit.t("review.done_text"), class_="quiet"),
            class_="empty",
        )
        return shown(visit, "review", visit.t("nav.review"), head, done)
    row = rows[0]
    return shown(
        visit,
        "review",
        visit.t("nav.review"),
        head,
        tag(
            "section",
            tag("h2", tag("bdi", row.case_code), " ", decision(visit, row.decision, row.label)),
            buttons(visit, row, of=site or ""),
            detail(visit, row),
            class_="task",
            data_finding=row.id,
        ),
        _queue(visit, rows[1:]),
        scripts=("review",),
    )


def judge(visit: Visit) -> Response:
    """Take a verdict, and show the next."""
    row = fleet.finding(
        visit.database, visit.form.get("site", ""), visit.form.get("device", ""), visit.form.get("id", "")
    )
    if row is None:
        return PlainTextResponse("no such finding\n", status_code=404)
    try:
        given = truth(row, visit.form.get("verdict", ""))
    except UnknownVerdictError:
        return PlainTextResponse("no such verdict\n", status_code=400)
    actor, now = visit.account.name, time.time()
    visit.write(
        lambda connection: reviews.add(connection, visit.database, row, given, actor, now),
        "verdict",
        finding=f"{row.site}/{row.device}/{row.id}",
        labels=None if given is None else ", ".join(given),
    )
    next_ = link("/review", site=visit.form.get("of"))
    if visit.form.get("then") == "finding":
        next_ = f"/finding/{row.site}/{row.device}/{row.id}"
    return RedirectResponse(next_, status_code=303)


def accuracy(visit: Visit) -> Response:
    """The page ``/accuracy``: sensitivity and specificity by site and model."""
    now = time.time()
    since = now - _PERIOD_S
    found = fields(
        reviews.judged(visit.database, since, now + 86400),
        reviews.unreviewed(visit.database, since, now + 86400),
    )
    columns = ("site", "model", "sensitivity", "specificity", "reviewed_of")
    head = tag("tr", *(tag("th", visit.t(f"column.{name}"), scope="col") for name in columns))
    rows = [_accuracy(visit, one) for one in found]
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="list accuracy")
    export = tag("a", visit.t("accuracy.labels"), href="/labels.csv", class_="button")
    return shown(
        visit,
        "accuracy",
        visit.t("nav.accuracy"),
        tag(
            "div",
            tag("h1", visit.t("nav.accuracy")),
            export if visit.account.may("reviewer") else None,
            class_="title",
        ),
        tag("p", visit.t("accuracy.about"), class_="quiet"),
        tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=visit.t("nav.accuracy"))
        if rows
        else tag("p", visit.t("accuracy.none"), class_="quiet"),
    )


def labels_csv(visit: Visit) -> Response:
    """Labels that reviewers gave, for training; the images themselves stay on the carts."""
    verdict, table = visit.database.tables["verdict"], visit.database.tables["finding"]
    newest = select(func.max(verdict.c.seq)).group_by(verdict.c.site, verdict.c.device, verdict.c.finding)
    same = and_(
        table.c.site == verdict.c.site, table.c.device == verdict.c.device, table.c.id == verdict.c.finding
    )
    query = (
        select(table, verdict.c.labels.label("truth"))
        .join_from(verdict, table, same)
        .where(verdict.c.seq.in_(newest), verdict.c.labels.is_not(None), ~table.c.test)
        .order_by(table.c.at)
    )
    rows = visit.database.read(query)

    def reviewed() -> Iterator[tuple[Any, Sequence[str]]]:
        for row in rows:
            yield row, json.loads(row.truth) or [negative(row)]

    visit.write(lambda _: None, "exported", format="labels", findings=len(rows))
    headers = {"Content-Disposition": 'attachment; filename="labels.csv"'}
    return StreamingResponse(to_csv(_COLUMNS, label_rows(reviewed())), media_type="text/csv", headers=headers)


def _queue(visit: Visit, rows: Sequence[Any]) -> Child:
    if not rows:
        return None
    items = [
        tag(
            "li",
            decision(visit, row.decision, row.label),
            tag("span", percent(visit, row.probability)),
            tag("bdi", row.case_code),
        )
        for row in rows
    ]
    return tag("section", tag("h2", visit.t("review.next")), tag("ol", items, class_="queue"), class_="panel")


def _sites(visit: Visit, chosen: str | None) -> Element:
    options = [tag("option", site, value=site, selected=site == chosen) for site in visit.view.sites]
    every = tag("option", visit.t("fleet.all_sites"), value="")
    select_ = tag("select", every, options, name="site", id="review-site")
    return tag(
        "form",
        tag("label", tag("span", visit.t("filter.site")), select_),
        tag("button", visit.t("filter.apply")),
        action="/review",
        method="get",
        class_="filters",
    )


def _accuracy(visit: Visit, one: Field) -> Element:
    reviewed = [
        tag(
            "li",
            decision(visit, name),
            " ",
            visit.t("accuracy.of", k=done, n=done + one.unreviewed.get(name, 0)),
        )
        for name, done in one.reviewed.items()
    ]
    warning = tag("p", visit.t("accuracy.one_sided"), class_="reason-note") if one.one_sided else None
    cells: list[tuple[str, Child]] = [
        ("site", tag("bdi", one.site)),
        ("model", tag("bdi", f"{one.bundle} {one.version}")),
        ("sensitivity", [_share(visit, one.sensitivity), warning]),
        ("specificity", _share(visit, one.specificity)),
        ("reviewed_of", tag("ul", reviewed)),
    ]
    return tag("tr", *(tag("td", c, data_label=visit.t(f"column.{k}"), class_=f"c-{k}") for k, c in cells))


def _share(visit: Visit, share: Share) -> Child:
    if share.value is None:
        return "–"
    low, high = share.interval
    shares = {"low": _whole(visit, low), "high": _whole(visit, high)}
    interval = visit.t("accuracy.interval", **shares, k=share.k, n=share.n)
    bar = tag(
        "svg",
        tag("rect", x=f"{low * 100:.1f}", width=f"{(high - low) * 100:.1f}", height="1", class_="interval"),
        tag("line", x1=f"{share.value * 100:.1f}", x2=f"{share.value * 100:.1f}", y1="0", y2="1"),
        class_="meter",
        viewBox="0 0 100 1",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    return [tag("b", _whole(visit, share.value)), bar, tag("small", interval)]


def _whole(visit: Visit, share: float) -> str:
    """A counted share: of twelve of twelve it is 100 %, and the interval says what that is worth."""
    return visit.texts["percent"].format(n=f"{share * 100:.0f}")
