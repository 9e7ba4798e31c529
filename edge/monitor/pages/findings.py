"""Findings: filtered, one by one, and as files."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from xml.etree.ElementTree import Element

from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from edge.monitor.access import Visit
from edge.monitor.export import FINDING_COLUMNS, fhir_bundle, finding_row, to_csv
from edge.monitor.pages.layout import decision, link, percent, shown, when
from edge.monitor.pages.verdicts import buttons
from edge.monitor.store import fleet, reviews
from edge.monitor.store.fleet import Filter
from edge.web.html import Child, tag

__all__ = ["detail", "evidence", "finding", "findings", "findings_csv", "findings_fhir", "listed", "overlay"]

_PAGE = 50
_DAYS = 7  # what is looked at unless something else was asked for
_CHUNK = 2000
_FHIR = 2000  # most findings in one Bundle
_DECISIONS = ("positive", "negative", "no_result")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_PLACE = re.compile(r"(\d{1,12}(?:\.\d{1,9})?):(\d{1,17})", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{32}")


def findings(visit: Visit) -> Response:
    """The page ``/findings``."""
    wanted = _wanted(visit)
    rows = fleet.findings(visit.database, wanted, _PAGE + 1, _before(visit))
    counted = fleet.count_findings(visit.database, wanted)
    query = {k: v for k, v in visit.request.query_params.items() if k != "before"}
    more = None
    if len(rows) > _PAGE:
        last = rows[_PAGE - 1]
        href = link("/findings", **query, before=f"{last.at!r}:{last.seq}")
        more = tag("a", visit.t("findings.older"), href=href, class_="button", rel="next")
    totals = [
        tag("li", decision(visit, name), " ", tag("b", str(counted.get(name, 0)))) for name in _DECISIONS
    ]
    files = tag(
        "p",
        tag("a", visit.t("findings.csv"), href=link("/findings.csv", **query), class_="button"),
        tag("a", visit.t("findings.fhir"), href=link("/findings.fhir.json", **query), class_="button"),
        class_="files",
    )
    return shown(
        visit,
        "findings",
        visit.t("nav.findings"),
        tag("div", tag("h1", visit.t("nav.findings")), files, class_="title"),
        _filters(visit),
        tag("ul", totals, class_="totals"),
        listed(visit, rows[:_PAGE]),
        tag("p", more, class_="pager") if more is not None else None,
    )


def findings_csv(visit: Visit) -> Response:
    """The findings of a filter as CSV."""
    wanted = _wanted(visit)

    def rows() -> Iterator[dict[str, Any]]:
        before = None
        while some := fleet.findings(visit.database, wanted, _CHUNK, before):
            yield from map(finding_row, some)
            before = (some[-1].at, some[-1].seq)

    visit.write(lambda _: None, "exported", format="csv", query=str(visit.request.query_params))
    headers = {"Content-Disposition": 'attachment; filename="findings.csv"'}
    return StreamingResponse(to_csv(FINDING_COLUMNS, rows()), media_type="text/csv", headers=headers)


def findings_fhir(visit: Visit) -> Response:
    """The newest findings of a filter as a FHIR R4 Bundle, at most 2,000."""
    rows = fleet.findings(visit.database, _wanted(visit), _FHIR)
    visit.write(lambda _: None, "exported", format="fhir", query=str(visit.request.query_params))
    headers = {"Content-Disposition": 'attachment; filename="findings.fhir.json"'}
    bundle = fhir_bundle(rows, time.time())
    return JSONResponse(bundle, media_type="application/fhir+json", headers=headers)


def finding(visit: Visit) -> Response:
    """The page ``/finding/<site>/<device>/<id>``."""
    row = _row(visit)
    if row is None:
        return PlainTextResponse("no such finding\n", status_code=404)
    title = f"{visit.texts['field.case']} {row.case_code}"
    said = reviews.latest(visit.database, row.site, row.device, row.id)
    judged = None
    if said is not None:
        judged = tag("p", verdict_text(visit, said), " ", tag("small", said.reviewer), class_="verdict")
    return shown(
        visit,
        "findings",
        title,
        tag("div", tag("h1", title), decision(visit, row.decision, row.label), class_="title"),
        judged,
        buttons(visit, row, then="finding") if visit.account.may("reviewer") else None,
        detail(visit, row),
        scripts=("review",),
    )


def overlay(visit: Visit) -> Response:
    """The overlay of a finding: where the model looked, without any pixel of the image."""
    parameters = visit.request.path_params
    png = fleet.overlay(visit.database, parameters["site"], parameters["device"], parameters["id"])
    if png is None:
        return PlainTextResponse("no such picture\n", status_code=404)
    return Response(png, media_type="image/png", headers={"Content-Security-Policy": "default-src 'none'"})


def detail(visit: Visit, row: Any) -> Element:
    """A finding with all that it rests on, and its overlay beside it."""
    said = json.loads(row.payload)
    facts: list[tuple[str, Child]] = [
        (visit.texts["field.time"], [when(row.at), None if row.time_known else visit.t("time.unknown")]),
        (
            visit.t("column.cart"),
            tag("a", tag("bdi", f"{row.site}/{row.device}"), href=f"/cart/{row.site}/{row.device}"),
        ),
        (visit.texts["field.model"], tag("bdi", f"{row.bundle} {row.version}")),
        (visit.texts["field.source"], tag("bdi", said["source"])),
        (visit.texts["field.frame"], str(said.get("frame", 0) + 1)),
        (visit.t("fact.id"), tag("code", row.id)),
    ]
    if said.get("policy"):
        facts.append((visit.texts["field.policy"], tag("bdi", said["policy"])))
    pairs = (tag("div", tag("dt", name), tag("dd", value)) for name, value in facts)
    picture: Child = tag("p", visit.t("overlay.none"), class_="none")
    if fleet.overlay(visit.database, row.site, row.device, row.id) is not None:
        caption = visit.texts["image.outline" if said["evidence"].get("area") else "image.heat"]
        source = f"/overlay/{row.site}/{row.device}/{row.id}.png"
        picture = tag("figure", tag("img", src=source, alt=caption), tag("figcaption", caption))
    return tag(
        "div",
        tag("div", evidence(visit, row, said), tag("dl", *pairs, class_="facts"), class_="panel"),
        tag(
            "div",
            picture,
            tag("p", visit.t("overlay.no_image"), class_="quiet small"),
            class_="panel pictures",
        ),
        class_="finding",
    )


def evidence(visit: Visit, row: Any, said: dict[str, Any]) -> Child:
    """Reasons of no result, or probabilities with their thresholds."""
    reasons = [tag("p", visit.texts[f"reason.{code}"], class_="reason") for code in said.get("reasons", ())]
    bars = []
    for label, p in sorted(said.get("probabilities", {}).items(), key=lambda item: -item[1])[:8]:
        limit = said.get("thresholds", {}).get(label)
        meter = tag(
            "svg",
            tag("rect", width=f"{p * 100:.1f}", height="1"),
            tag("line", x1=f"{limit * 100:.1f}", x2=f"{limit * 100:.1f}", y1="0", y2="1") if limit else None,
            class_="meter",
            viewBox="0 0 100 1",
            preserveAspectRatio="none",
            aria_hidden="true",
        )
        threshold = visit.texts["threshold"].format(p=percent(visit, limit)) if limit else ""
        number = tag("bdi", percent(visit, p), class_="number", dir="ltr")
        bars.append(tag("li", tag("bdi", label), meter, number, tag("small", threshold)))
    return [reasons, tag("ul", bars, class_="labels") if bars else None]


def verdict_text(visit: Visit, said: Any) -> str:
    """A verdict in words."""
    if said.labels is None:
        return visit.texts["verdict.unclear"]
    labels = ", ".join(json.loads(said.labels)) or visit.texts["decision.negative"]
    key = "verdict.given" if said.agrees is None else "verdict.agrees" if said.agrees else "verdict.differs"
    return visit.texts[key].format(labels=labels)


def listed(visit: Visit, rows: Sequence[Any], *, short: bool = False) -> Element:
    """A table of findings; ``short``: of one cart."""
    if not rows:
        return tag("p", visit.t("findings.none"), class_="quiet")
    names = ["finding", "probability", "case", *([] if short else ["cart"]), "time", "model", "review"]
    head = tag("tr", *(tag("th", visit.t(f"column.{name}"), scope="col") for name in names))
    body = []
    for row in rows:
        href = f"/finding/{row.site}/{row.device}/{row.id}"
        practice = tag("span", visit.texts["practice"], class_="practice") if row.test else None
        late = tag("small", visit.t("findings.late")) if row.received - row.at > 3600 else None
        cells: dict[str, Child] = {
            "finding": [decision(visit, row.decision, row.label), practice],
            "probability": percent(visit, row.probability),
            "case": tag("a", tag("bdi", row.case_code), href=href),
            "cart": tag("bdi", f"{row.site}/{row.device}"),
            "time": [when(row.at), None if row.time_known else tag("small", visit.t("time.unknown")), late],
            "model": tag("bdi", f"{row.bundle} {row.version}"),
            "review": visit.t("reviewed") if row.reviewed else "–",
        }
        body.append(
            tag(
                "tr",
                *(
                    tag("td", cells[name], data_label=visit.t(f"column.{name}"), class_=f"c-{name}")
                    for name in names
                ),
            )
        )
    table = tag("table", tag("thead", head), tag("tbody", body), class_="list")
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=visit.t("nav.findings"))


def _filters(visit: Visit) -> Element:
    def choice(name: str, options: Sequence[tuple[str, str]]) -> Element:
        chosen = visit.query(name)
        every = tag("option", visit.t("filter.all"), value="")
        made = [tag("option", text, value=value, selected=value == chosen) for value, text in options]
        select = tag("select", every, made, name=name, id=f"filter-{name}")
        return tag("label", tag("span", visit.t(f"filter.{name}")), select)

    def entry(name: str, kind: str, **attributes: str | int) -> Element:
        value = _since(visit) if name == "since" else visit.query(name)
        made = tag("input", type=kind, name=name, value=value, id=f"filter-{name}", **attributes)
        return tag("label", tag("span", visit.t(f"filter.{name}")), made)

    return tag(
        "form",
        choice("site", [(site, site) for site in visit.view.sites]),
        entry("device", "text", size=10),
        choice("decision", [(name, visit.texts[f"decision.{name}"]) for name in _DECISIONS]),
        entry("label", "text", size=12),
        entry("case", "text", size=10),
        entry("since", "date"),
        entry("until", "date"),
        choice("reviewed", [("yes", visit.t("reviewed")), ("no", visit.t("unreviewed"))]),
        tag("button", visit.t("filter.apply")),
        action="/findings",
        method="get",
        class_="filters",
    )


def _wanted(visit: Visit) -> Filter:
    reviewed = {"yes": True, "no": False}.get(visit.query("reviewed") or "")
    case = visit.query("case")
    return Filter(
        site=visit.query("site"),
        device=visit.query("device"),
        decision=visit.query("decision"),
        label=visit.query("label"),
        case_code=case.strip().upper() if case else None,
        reviewed=reviewed,
        since=_day(_since(visit)),
        until=_day(visit.query("until"), 1),
        test=visit.query("test") == "yes",
    )


def _since(visit: Visit) -> str | None:
    """The first day that is looked at: the last week's, unless something narrower was asked for."""
    asked = ("since", "device", "case")
    if any(name in visit.request.query_params for name in asked):
        return visit.query("since")
    return f"{datetime.now(timezone.utc) - timedelta(days=_DAYS):%Y-%m-%d}"


def _day(text: str | None, later: int = 0) -> float | None:
    """The begin of a day, UTC, or of one ``later``; None where it is no day."""
    if text is None or not _DAY.fullmatch(text):
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc)
        return (day + timedelta(days=later)).timestamp()
    except (ValueError, OverflowError):
        return None


def _before(visit: Visit) -> tuple[float, int] | None:
    found = _PLACE.fullmatch(visit.query("before") or "")
    return (float(found[1]), int(found[2])) if found else None


def _row(visit: Visit) -> Any | None:
    parameters = visit.request.path_params
    if not _HEX.fullmatch(parameters["id"]):
        return None
    return fleet.finding(visit.database, parameters["site"], parameters["device"], parameters["id"])
