"""The audit trail: who did what, and whether it is whole."""

from __future__ import annotations

import json

from starlette.responses import Response

from edge.monitor.access import Visit
from edge.monitor.pages.layout import link, shown, when
from edge.monitor.store import audit as trail
from edge.web.html import Child, tag

__all__ = ["audit"]

_PAGE = 100
_DIGITS = 18  # of a number that a database knows


def audit(visit: Visit) -> Response:
    """The page ``/audit``."""
    before = visit.query("before")
    older = int(before) if before and before.isdecimal() and len(before) < _DIGITS else None
    rows = trail.entries(visit.database, _PAGE, older)
    broken = trail.broken_at(visit.database)
    names = ("time", "actor", "kind", "data")
    head = tag("tr", *(tag("th", visit.t(f"column.{name}"), scope="col") for name in names))
    body = []
    for row in rows:
        said = ", ".join(f"{name}: {value}" for name, value in json.loads(row.data).items())
        cells: dict[str, Child] = {
            "time": when(row.at),
            "actor": tag("bdi", row.actor),
            "kind": tag("code", row.kind),
            "data": tag("bdi", said),
        }
        body.append(tag("tr", *(tag("td", cells[n], data_label=visit.t(f"column.{n}")) for n in names)))
    if broken is None:
        last = rows[0].hash if rows else "–"
        state = tag("p", visit.t("audit.whole"), " ", tag("code", last), class_="quiet")
    else:
        state = tag("p", visit.t("audit.broken", n=broken), class_="banner warning", role="alert")
    more = None
    if len(rows) == _PAGE and rows[-1].seq > 1:
        more = tag("a", visit.t("findings.older"), href=link("/audit", before=rows[-1].seq), class_="button")
    table = tag("table", tag("thead", head), tag("tbody", body), class_="list")
    return shown(
        visit,
        "audit",
        visit.t("nav.audit"),
        tag("h1", visit.t("nav.audit")),
        state,
        tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=visit.t("nav.audit")),
        tag("p", more, class_="pager") if more is not None else None,
    )
