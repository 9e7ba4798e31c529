"""Drift: what each model sees and says at each site, against its commissioning baseline."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import groupby
from xml.etree.ElementTree import Element

from starlette.responses import PlainTextResponse, RedirectResponse, Response

from edge.monitor.access import Visit
from edge.monitor.attention import Level
from edge.monitor.drift import LEAST
from edge.monitor.pages.layout import badge, form, shown
from edge.monitor.store import shifts
from edge.monitor.store.shifts import Shift
from edge.web.html import tag

__all__ = ["anew", "drift"]

_DAY_S = 86400


def drift(visit: Visit) -> Response:
    """The page ``/drift``."""
    found = shifts.shifts(visit.database, int(time.time() // _DAY_S))
    models = [(model, list(group)) for model, group in groupby(found, key=lambda shift: shift.model)]
    models.sort(key=lambda pair: -max(shift.index or 0.0 for shift in pair[1]))
    body = [_model(visit, group) for _, group in models] or [
        tag(
            "section",
            tag("h2", visit.t("drift.none")),
            tag("p", visit.t("drift.none_text", n=LEAST), class_="quiet"),
            class_="empty",
        )
    ]
    return shown(
        visit,
        "drift",
        visit.t("nav.drift"),
        tag("h1", visit.t("nav.drift")),
        tag("p", visit.t("drift.about", n=shifts.DAYS), class_="quiet"),
        *body,
    )


def anew(visit: Visit) -> Response:
    """Have a new baseline taken of what comes from now on."""
    model = tuple(visit.form.get(name, "") for name in ("site", "bundle", "version"))
    today = int(time.time() // _DAY_S)
    if not any(shift.model == model for shift in shifts.shifts(visit.database, today)):
        return PlainTextResponse("no such model\n", status_code=404)
    site, bundle, version = model
    visit.write(
        lambda connection: shifts.forget(connection, visit.database, (site, bundle, version), today),
        "baseline_anew",
        site=site,
        bundle=bundle,
        version=version,
    )
    return RedirectResponse("/drift", status_code=303)


def _model(visit: Visit, group: Sequence[Shift]) -> Element:
    site, bundle, version = group[0].model
    moved = any(shift.alarm for shift in group)
    hidden = {"site": site, "bundle": bundle, "version": version}
    fields = [tag("input", type="hidden", name=name, value=value) for name, value in hidden.items()]
    again = form(
        visit, "/drift", fields, tag("button", visit.t("drift.anew"), title=visit.t("drift.anew_about"))
    )
    days = visit.t("drift.baseline", first=_date(group[0].first_day), last=_date(group[0].last_day))
    return tag(
        "section",
        tag(
            "div",
            tag("h2", tag("bdi", site), " · ", tag("bdi", f"{bundle} {version}")),
            badge(visit, Level.LOOK) if moved else badge(visit, None),
            tag("span", days, class_="quiet"),
            again if visit.account.may("engineer") else None,
            class_="title",
        ),
        tag("ul", *(_measure(visit, shift) for shift in group), class_="measures-drift"),
        class_="panel",
    )


def _measure(visit: Visit, shift: Shift) -> Element:
    kind, _, name = shift.measure.partition(" ")
    words = visit.t(f"drift.quality.{name}") if kind == "quality" else visit.t(f"drift.{kind}", label=name)
    if shift.index is None:
        said = visit.t("drift.few", n=sum(shift.seen), least=LEAST)
    else:
        said = visit.t("drift.psi", n=f"{shift.index:.2f}", limit=f"{shift.limit:.2f}")
    state = "moved" if shift.alarm else "steady"
    return tag(
        "li",
        tag("h3", words),
        _histograms(shift),
        tag("p", said, class_=f"psi {state}"),
        tag("small", visit.t("drift.counts", before=sum(shift.baseline), now=sum(shift.seen))),
    )


def _histograms(shift: Shift) -> Element:
    """Shares by bin: the baseline as a line, the last days as bars."""
    expected, seen = _shares(shift.baseline), _shares(shift.seen)
    top = max(*expected, *seen, 0.01)
    bars = [
        tag("rect", x=f"{n * 10 + 1}", y=f"{40 - 38 * p / top:.1f}", width="8", height=f"{38 * p / top:.1f}")
        for n, p in enumerate(seen)
    ]
    points = []
    for n, p in enumerate(expected):
        y = f"{40 - 38 * p / top:.1f}"
        points += [f"{n * 10},{y}", f"{n * 10 + 10},{y}"]
    line = tag("polyline", points=" ".join(points), vector_effect="non-scaling-stroke")
    line.set("vector-effect", "non-scaling-stroke")
    return tag(
        "svg",
        bars,
        line,
        viewBox="0 0 100 40",
        class_="histogram",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) or 1
    return [n / total for n in counts]


def _date(day: int) -> str:
    return f"{datetime.fromtimestamp(day * _DAY_S, timezone.utc):%Y-%m-%d}"
