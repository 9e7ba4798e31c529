"""The fleet: every cart, those that need a visit first, with the reason before all else."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from starlette.responses import Response

from edge.monitor.access import Visit
from edge.monitor.attention import Level
from edge.monitor.pages.layout import ago, badge, icon, link, reason_text, shown, span
from edge.monitor.view import Cart
from edge.web.html import Child, tag

__all__ = ["fleet"]

_MOST = 100  # rows at once; the sites narrow them
_MOST_REASONS = 4
_LEVELS: tuple[Level | None, ...] = (Level.VISIT, Level.LOOK, Level.NOTE, None)


def fleet(visit: Visit) -> Response:
    """The page ``/``."""
    carts, sites = visit.view.carts, visit.view.sites
    site, level, text = visit.query("site"), visit.query("level"), visit.query("q")
    chosen = [cart for cart in carts if site is None or cart.row.site == site]
    counted = Counter(cart.level for cart in chosen)
    if level is not None:
        chosen = [cart for cart in chosen if _name(cart.level) == level]
    if text:
        chosen = [cart for cart in chosen if text.lower() in f"{cart.row.site}/{cart.row.device}"]
    now = time.time()
    body: list[Child] = [
        tag(
            "div",
            tag("h1", visit.t("fleet.title") if site is None else tag("bdi", site)),
            _counts(visit, counted, site, level),
            class_="title",
        ),
        tag("div", _tree(visit, sites, site), _table(visit, chosen, now), class_="split"),
    ]
    return shown(visit, "fleet", visit.t("fleet.title"), *body)


def _name(level: Level | None) -> str:
    return "fine" if level is None else level.name.lower()


def _counts(visit: Visit, counted: Counter[Level | None], site: str | None, chosen: str | None) -> Element:
    items = []
    for level in _LEVELS:
        name = _name(level)
        current = chosen == name
        href = link("/", site=site, level=None if current else name)
        number = tag("b", str(counted[level]))
        words = tag("span", visit.t(f"count.{name}"))
        box = tag("a", icon(name), number, words, href=href, aria_current="true" if current else None)
        box.set("class", f"count {name}")
        items.append(tag("li", box))
    return tag("ul", items, class_="counts", aria_label=visit.t("fleet.counts"))


def _tree(visit: Visit, sites: Mapping[str, Counter[Level | None]], chosen: str | None) -> Element:
    total: Counter[Level | None] = Counter()
    for counted in sites.values():
        total += counted
    rows = [(None, total), *sites.items()]
    items = [
        tag(
            "li",
            tag(
                "a",
                tag("bdi", site or visit.t("fleet.all_sites")),
                tag("span", _worst(visit, counted), class_="worst"),
                tag("span", str(sum(counted.values())), class_="number"),
                href=link("/", site=site),
                aria_current="true" if site == chosen else None,
            ),
        )
        for site, counted in rows
    ]
    return tag(
        "nav",
        tag("h2", visit.t("fleet.sites")),
        tag("ul", items),
        class_="tree",
        aria_label=visit.t("fleet.sites"),
    )


def _worst(visit: Visit, counted: Counter[Level | None]) -> Child:
    """How many carts of a site are at its worst level, where that is worth a look."""
    for level in (Level.VISIT, Level.LOOK):
        if counted[level]:
            name = _name(level)
            words = tag("span", visit.t(f"count.{name}"), class_="spoken")
            return tag("span", icon(name), str(counted[level]), words, class_=f"badge {name}")
    return None


def _table(visit: Visit, carts: Sequence[Cart], now: float) -> Element:
    if not carts:
        empty = "fleet.empty" if not visit.view.carts else "fleet.none_such"
        return tag(
            "section",
            tag("h2", visit.t(empty)),
            tag("p", visit.t("fleet.empty_do"), class_="quiet"),
            class_="empty",
        )
    columns = ("why", "cart", "last_good", "model", "storage", "backlog", "temperature", "heard")
    head = tag("tr", *(tag("th", visit.t(f"column.{name}"), scope="col") for name in columns))
    rows = [_row(visit, cart, now) for cart in carts[:_MOST]]
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="fleet")
    more = len(carts) - _MOST
    return tag(
        "section",
        tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=visit.t("fleet.title")),
        tag("p", visit.t("fleet.more", n=more), class_="quiet") if more > 0 else None,
        class_="carts",
    )


def _row(visit: Visit, cart: Cart, now: float) -> Element:
    row, t = cart.row, visit.t
    level = _name(cart.level)
    listed = [tag("li", reason_text(visit, reason)) for reason in cart.reasons[:_MOST_REASONS]]
    if len(cart.reasons) > _MOST_REASONS:
        listed.append(tag("li", t("why.more", n=len(cart.reasons) - _MOST_REASONS)))
    why = [badge(visit, cart.level), tag("ul", listed) if listed else None]
    name = tag(
        "a",
        tag("bdi", row.device),
        href=f"/cart/{row.site}/{row.device}",
        id=f"cart-{row.site}-{row.device}",
    )
    days = None if row.disk_days is None else span(visit, row.disk_days * 86400)
    free = None if row.disk_free_mb is None else t("gigabytes", n=f"{row.disk_free_mb / 1000:.1f}")
    backlog: Child = "–" if row.backlog is None else f"{row.backlog:.0f}"
    if row.backlog and row.backlog_oldest_s:
        backlog = [backlog, " ", tag("small", span(visit, row.backlog_oldest_s))]
    hot = "–" if row.temperature_celsius is None else t("celsius", n=f"{row.temperature_celsius:.0f}")
    good: list[Child] = [ago(visit, row.last_good, now)]
    if row.last_good_case:
        good.append(tag("small", row.last_good_case))
    cells: list[tuple[str, Child]] = [
        ("why", why),
        ("cart", [name, tag("small", tag("bdi", row.site))]),
        ("last_good", good),
        ("model", tag("bdi", row.bundles or "–")),
        ("storage", [free or "–", tag("small", t("days_left", n=days)) if days else None]),
        ("backlog", backlog),
        ("temperature", hot),
        ("heard", _heard(visit, row, now)),
    ]
    return tag(
        "tr",
        *(tag("td", content, data_label=t(f"column.{key}"), class_=f"c-{key}") for key, content in cells),
        class_=level,
    )


def _heard(visit: Visit, row: Any, now: float) -> Child:
    online = row.online
    word = tag(
        "span", visit.t("online" if online else "offline"), class_="link online" if online else "link offline"
    )
    return [word, tag("small", ago(visit, row.last_heard, now))]
