"""The HTML of the cart's screen, built as a tree so that nothing in it can be mistaken for markup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from xml.etree.ElementTree import Element, SubElement, tostring

from edge.agent import measured
from edge.agent.config import AgentConfig
from edge.agent.stick import Stick, sentences
from edge.agent.store import StoredFinding
from edge.agent.verdicts import Verdict
from edge.imaging.patient import Patient
from edge.mqtt.payloads import Finding

__all__ = ["Patients", "View", "parse", "render", "render_unlock"]

# Decisions by shape as well as by colour: triangle, tick in a circle, outline, dashed circle. In 24 x 24.
_ICONS = {
    "positive": "M12 2.5 22.5 21h-21zM12 9.5v5.5M12 17.6v.6",
    "negative": "M12 2a10 10 0 1 0 0 20a10 10 0 1 0 0-20zM7 12.4l3.4 3.4L17 9",
    "outlined": "M12 3c5 0 8 3.5 8 9s-3.5 9-8 9-8-3.5-8-9 3-9 8-9z",
    "no_result": "M9.1 9a3 3 0 1 1 4.2 2.8c-.9.5-1.3 1-1.3 2.2M12 17.2v.6",
}
_MOST_LABELS = 6  # probabilities listed, the largest
# Letters of a headline up to which a size of type fits.
_SIZES = (("short", 8), ("medium", 14))


@dataclass(frozen=True)
class Patients:
    """Whose the studies are, while the lock is open: ``known`` by study (None: can no longer be read), and
    the wall clock's time in seconds at which the lock closes."""

    known: Mapping[str, Sequence[Patient] | None]
    until: float


@dataclass(frozen=True)
class View:
    """What there is to see.

    ``findings`` are the newest first; ``chosen`` is the one shown large, with ``image`` and ``overlay``
    saying which of its pictures exist; ``waiting`` counts findings not delivered; ``trouble`` is "disk" where
    no image is taken, "metered" where nothing is told until tomorrow; ``stick``: the courier's, if one is in;
    ``identifying``: somebody far away asks which cart this is. ``lockable``: there is a PIN, and it may be
    given from where the page is asked for; ``patients`` is None while the lock is closed. ``verdict`` is what
    a reviewer said of the chosen finding.
    """

    site: str
    device: str
    language: str
    findings: Sequence[Finding]
    chosen: Finding | None
    image: bool
    overlay: bool
    connected: bool
    waiting: int
    unsigned: bool
    trouble: str | None = None
    stick: Stick | None = None
    identifying: bool = False
    lockable: bool = False
    patients: Patients | None = None
    verdict: Verdict | None = None

    @property
    def newest(self) -> bool:
        """Whether the newest finding is the one shown."""
        return not self.chosen or not self.findings or self.chosen.id == self.findings[0].id


def render(view: View, texts: Mapping[str, str]) -> str:
    """The whole page. ``texts`` is the catalogue of :mod:`edge.web.catalogue` in the view's language."""
    html = Element("html", lang=view.language, dir=texts["direction"])
    head = _head(html, view.device, "screen")
    # Without scripts the page asks again by itself.
    SubElement(SubElement(head, "noscript"), "meta", {"http-equiv": "refresh", "content": "5"})
    body = SubElement(html, "body")
    _icons(body)
    _top(body, view, texts)
    _banners(body, view, texts)
    main = SubElement(body, "main", id="main")
    if view.chosen:
        _result(main, view, view.chosen, texts)
        _pictures(main, view, view.chosen, texts)
    else:
        empty = SubElement(main, "section", {"class": "empty"})
        _text(empty, "h1", texts["empty.title"])
        _text(empty, "p", texts["empty.text"])
    _studies(body, view, texts)
    # What a screen reader hears when the result changes.
    SubElement(body, "p", {"id": "announce", "role": "status", "aria-live": "polite"})
    return "<!doctype html>\n" + tostring(html, encoding="unicode", method="html")


def _head(html: Element, device: str, script: str) -> Element:
    head = SubElement(html, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    SubElement(head, "meta", {"name": "color-scheme", "content": "dark light"})
    _text(head, "title", f"{device} · scanwright")
    SubElement(head, "link", rel="icon", href="/static/icon.svg", type="image/svg+xml")
    SubElement(head, "link", rel="stylesheet", href="/static/style.css")
    SubElement(head, "script", src=f"/static/{script}.js", defer="defer")
    return head


def _icons(body: Element) -> None:
    sprite = SubElement(body, "svg", {"hidden": "hidden", "aria-hidden": "true"})
    for name, path in _ICONS.items():
        symbol = SubElement(sprite, "symbol", id=f"icon-{name}", viewBox="0 0 24 24")
        if name == "no_result":
            SubElement(symbol, "circle", {"cx": "12", "cy": "12", "r": "10", "stroke-dasharray": "4.2 2.1"})
        SubElement(symbol, "path", d=path)


def _top(body: Element, view: View, texts: Mapping[str, str]) -> None:
    header = SubElement(body, "header", id="top")
    name = SubElement(header, "p", {"class": "device"})
    _text(name, "bdi", view.device)
    _text(name, "bdi", view.site, "site")
    state = ("sending" if view.waiting else "online") if view.connected else "offline"
    _text(header, "p", texts[f"link.{state}"].format(n=view.waiting), f"link {state}")


def _banners(body: Element, view: View, texts: Mapping[str, str]) -> None:
    banners = SubElement(body, "div", id="banners")
    # Shown by the script when the agent no longer answers.
    SubElement(banners, "p", {"class": "banner lost", "role": "alert"}).text = texts["banner.lost"]
    if view.identifying:
        _identify(banners, view, texts)
    if view.trouble:
        _text(banners, "p", texts[f"trouble.{view.trouble}"], "banner warning").set("role", "alert")
    if view.stick:
        style = "banner" if view.stick.problem is None and not view.stick.working else "banner warning"
        said = " ".join(sentences(view.stick, texts))
        _text(banners, "p", said, f"{style} stick").set("role", "status")
    if view.unsigned:
        _text(banners, "p", texts["banner.unsigned"], "banner warning")
    _text(banners, "p", texts["banner.support"], "banner")
    if not view.newest:
        earlier = _text(banners, "p", texts["banner.earlier"], "banner earlier")
        SubElement(earlier, "a", {"href": "/", "class": "button", "id": "latest"}).text = texts[
            "banner.latest"
        ]


def _identify(banners: Element, view: View, texts: Mapping[str, str]) -> None:
    """The cart's name over everything else, until the screen is touched."""
    box = SubElement(banners, "div", {"class": "identify", "role": "alert"})
    _text(box, "p", view.device, "name")
    _text(box, "p", view.site)
    _text(box, "p", texts["identify"])


def _result(main: Element, view: View, finding: Finding, texts: Mapping[str, str]) -> None:
    decision = measured.decision(finding)
    section = SubElement(main, "section", {"class": f"result {decision}", "data-finding": finding.id})
    if view.lockable:
        _patient(section, view.patients, finding, texts)
    kicker = SubElement(section, "p", {"class": "decision"})
    _icon(kicker, decision)
    _text(kicker, "span", texts[f"decision.{decision}"])
    if finding.test:
        _text(kicker, "span", texts["practice"], "practice")
    if finding.label:
        _text(SubElement(section, "h1", {"class": _size(finding.label)}), "bdi", finding.label)
    elif finding.decision == "negative":
        _text(section, "h1", texts["decision.negative"], "long")
    for reason in finding.reasons:
        _text(section, "p", texts[f"reason.{reason.value}"], "reason")
    if view.verdict:
        _text(section, "p", _verdict(view.verdict, texts), "verdict")
    if finding.probability is not None and decision != "outlined":
        line = _text(section, "p", texts["probability"], "probability")
        _text(line, "bdi", _percent(finding.probability, texts)).set("dir", "ltr")
    _measurements(section, view, finding, texts)
    _probabilities(section, finding, texts)
    _facts(section, finding, texts)
    if finding.decision != "no_result" and finding.evidence.ood_limit is None:
        _text(section, "p", texts["model.no_gate"], "note")


def _patient(section: Element, patients: Patients | None, finding: Finding, texts: Mapping[str, str]) -> None:
    """Whose the finding is, or the way to the PIN."""
    if patients is None:
        link = {"href": f"/unlock?finding={finding.id}", "class": "button unlock", "id": "unlock"}
        SubElement(section, "a", link).text = texts["patient.show"]
        return
    box = SubElement(section, "div", {"class": "patient", "data-until": f"{patients.until:.0f}"})
    known = patients.known.get(finding.study)
    if not known:
        _text(box, "p", texts["patient.lost" if known is None else "patient.unknown"], "name")
    elif len({(p.alphabetic, p.ideographic, p.phonetic, p.id) for p in known}) > 1:
        _text(box, "p", texts["patient.conflict"], "conflict").set("role", "alert")
    for patient in known or ():
        _text(_text(box, "p", "", "name"), "bdi", _name(patient) or "–")
        line = SubElement(box, "p")
        for key, value in (("patient_id", patient.id), ("accession", patient.accession)):
            _text(_text(line, "span", texts[f"field.{key}"] + " "), "bdi", value or "–")
    form = SubElement(box, "form", {"method": "post", "action": "/lock"})
    SubElement(form, "button", {"id": "lock", "class": "always"}).text = texts["patient.hide"]


def _name(patient: Patient) -> str:
    """The groups that are there, each as family name and the rest: ``DOE, JOHN · 山田 太郎``."""
    family, _, given = patient.alphabetic.partition("^")
    alphabetic = ", ".join(part for part in (family, " ".join(given.replace("^", " ").split())) if part)
    others = (" ".join(group.replace("^", " ").split()) for group in (patient.ideographic, patient.phonetic))
    return " · ".join(group for group in (alphabetic, *others) if group)


def render_unlock(
    config: AgentConfig, finding: str, texts: Mapping[str, str], problem: str | None = None
) -> str:
    """The page with the pad for the PIN; ``finding`` is where it leads back to, "" or an id."""
    html = Element("html", lang=config.language, dir=texts["direction"])
    head = _head(html, config.device, "unlock")
    # Nobody stands before it any more: the results are shown again.
    SubElement(head, "meta", {"http-equiv": "refresh", "content": "60;url=/"})
    main = SubElement(SubElement(html, "body"), "main", {"class": "unlock"})
    form = SubElement(main, "form", {"method": "post", "action": "/unlock", "autocomplete": "off"})
    label = SubElement(form, "label", {"for": "pin"})
    _text(label, "h1", texts["pin.title"])
    SubElement(form, "input", {"type": "hidden", "name": "finding", "value": finding})
    field = {"type": "password", "name": "pin", "id": "pin", "inputmode": "numeric", "pattern": "[0-9]*"}
    field |= {"maxlength": "12", "required": "required", "autofocus": "autofocus", "autocomplete": "off"}
    SubElement(form, "input", field)
    _text(form, "p", problem or "", "problem").set("role", "alert")
    pad = SubElement(form, "div", {"class": "pad", "dir": "ltr"})
    for key in "1234567890":
        button = SubElement(pad, "button", {"type": "button", "data-digit": key})
        button.text = key
    SubElement(pad, "button", {"type": "button", "id": "clear"}).text = texts["pin.clear"]
    SubElement(form, "button", {"class": "always", "id": "ok"}).text = texts["pin.ok"]
    back = {"href": f"/?finding={finding}" if finding else "/", "class": "button", "id": "back"}
    SubElement(form, "a", back).text = texts["pin.back"]
    return "<!doctype html>\n" + tostring(html, encoding="unicode", method="html")


def _verdict(verdict: Verdict, texts: Mapping[str, str]) -> str:
    """What a reviewer said, in words."""
    if verdict.labels is None:
        return texts["verdict.unclear"]
    key = "given" if verdict.agrees is None else "agrees" if verdict.agrees else "differs"
    return texts[f"verdict.{key}"].format(labels=verdict.labels or texts["decision.negative"])


def _measurements(section: Element, view: View, finding: Finding, texts: Mapping[str, str]) -> None:
    """What was measured: areas of this frame, and what its clip has given so far."""
    if finding.decision == "no_result":
        return
    of_clip = measured.of_clip(view.findings, finding)
    areas = [one for one in finding.measurements if one.name == "area"]
    if not of_clip and not areas:
        return
    table = SubElement(section, "dl", {"class": "measures"})
    for one in (*of_clip, *areas):
        pair = SubElement(table, "div", {"class": "large" if one.name == "ejection_fraction" else "small"})
        named = one.name == "area" and len(areas) > 1
        name = texts[f"measure.{one.name}"]
        _text(pair, "dt", f"{name}: {one.label}" if named else name)
        if one.reason:
            _text(pair, "dd", texts[f"absent.{one.reason}"], "absent")
        else:
            _text(SubElement(pair, "dd"), "bdi", measured.amount(one, texts))
    if any(one.value is not None for one in of_clip):
        _text(section, "p", texts["measure.method"], "note")


def _probabilities(section: Element, finding: Finding, texts: Mapping[str, str]) -> None:
    if not finding.probabilities:
        return
    table = SubElement(section, "ul", {"class": "labels"})
    for label, p in sorted(finding.probabilities.items(), key=lambda item: -item[1])[:_MOST_LABELS]:
        row = SubElement(table, "li")
        _text(row, "bdi", label)
        _meter(row, p, finding.thresholds.get(label))
        _text(row, "bdi", _percent(p, texts), "number").set("dir", "ltr")
        if label in finding.thresholds:
            limit = _percent(finding.thresholds[label], texts)
            _text(row, "small", texts["threshold"].format(p=limit))


def _meter(row: Element, value: float, threshold: float | None) -> None:
    # The number beside it says the same in words.
    shape = {"class": "meter", "viewBox": "0 0 100 1", "preserveAspectRatio": "none", "aria-hidden": "true"}
    meter = SubElement(row, "svg", shape)
    SubElement(meter, "rect", width=f"{value * 100:.1f}", height="1")
    if threshold is not None:
        at = f"{threshold * 100:.1f}"
        SubElement(meter, "line", x1=at, x2=at, y1="0", y2="1")


def _facts(section: Element, finding: Finding, texts: Mapping[str, str]) -> None:
    facts = SubElement(section, "dl")
    at = _local(finding)
    time = f"{at:%H:%M:%S}" if at.date() == datetime.now().date() else f"{at:%Y-%m-%d %H:%M:%S}"
    if not finding.stamp.clock_trusted:
        time += f" ({texts['clock.untrusted']})"
    rows = [
        ("case", finding.case_code),
        ("time", time),
        ("source", finding.source),
        ("frame", str(finding.frame + 1)),
        ("model", f"{finding.bundle.name} {finding.bundle.version}"),
    ]
    if finding.policy:
        rows.append(("policy", finding.policy))
    if "total" in finding.elapsed_ms:
        rows.append(("duration", texts["milliseconds"].format(n=round(finding.elapsed_ms["total"]))))
    for key, value in rows:
        pair = SubElement(facts, "div", {"class": key})
        _text(pair, "dt", texts[f"field.{key}"])
        _text(SubElement(pair, "dd"), "bdi", value)


def _pictures(main: Element, view: View, finding: Finding, texts: Mapping[str, str]) -> None:
    # A heat map beside "no result" would look like one.
    heat = view.overlay and finding.decision != "no_result"
    section = SubElement(main, "section", {"class": "pictures" + (" both" if heat else "")})
    frames = SubElement(section, "div", {"class": "frames"})
    if view.image:
        _picture(frames, f"/image/{finding.id}.png", texts["image.plain"], "plain")
    else:
        _text(frames, "p", texts["image.none"], "none")
    outlined = finding.evidence.area is not None
    if heat:
        caption = texts["image.outline" if outlined else "image.heat"]
        _picture(frames, f"/overlay/{finding.id}.png", caption, "heat")
    bar = SubElement(section, "p", {"class": "bar"})
    ids = [f.id for f in view.findings]
    place = ids.index(finding.id) if finding.id in ids else len(ids)
    _go(bar, "newer", ids[place - 1] if place > 0 else None, texts)
    if heat:
        button = SubElement(bar, "button", {"type": "button", "id": "heat", "aria-pressed": "true"})
        button.text = texts["outline.toggle" if outlined else "heat.toggle"]
        _text(button, "kbd", "H")
    _go(bar, "older", ids[place + 1] if place + 1 < len(ids) else None, texts)


def _picture(frames: Element, url: str, caption: str, kind: str) -> None:
    figure = SubElement(frames, "figure", {"class": kind})
    SubElement(figure, "img", src=url, alt=caption)
    _text(figure, "figcaption", caption)


def _go(bar: Element, direction: str, to: str | None, texts: Mapping[str, str]) -> None:
    link = _text(bar, "a", texts[f"go.{direction}"], f"button {direction}")
    link.set("id", direction)
    if to:
        link.set("href", f"/?finding={to}")
    else:
        link.set("aria-disabled", "true")


def _studies(body: Element, view: View, texts: Mapping[str, str]) -> None:
    nav = SubElement(body, "nav", {"id": "studies", "aria-label": texts["studies"]})
    _text(nav, "h2", texts["studies"])
    strip = SubElement(nav, "ul")
    studies: dict[str, list[Finding]] = {}
    for finding in view.findings:
        studies.setdefault(finding.study, []).append(finding)
    for findings in studies.values():
        _study(SubElement(strip, "li"), findings, view.chosen, texts)
    if not studies:
        _text(nav, "p", texts["studies.none"], "none")


def _study(item: Element, findings: list[Finding], chosen: Finding | None, texts: Mapping[str, str]) -> None:
    # Of a study's frames the card leads to end-diastole or the most suspicious, else to the newest.
    shown = measured.end_diastole(findings) or max(
        findings, key=lambda f: (f.probability or 0) if f.decision == "positive" else 0
    )
    link = SubElement(
        item, "a", {"href": f"/?finding={shown.id}", "id": f"study-{shown.study}", "class": "study"}
    )
    if chosen and chosen.study == shown.study:
        link.set("aria-current", "true")
    top = SubElement(link, "span", {"class": "head"})
    _text(top, "bdi", shown.case_code)
    _text(top, "time", f"{_local(findings[0]):%H:%M}")
    bottom = SubElement(link, "span", {"class": "tail"})
    if len(findings) == 1:
        only = SubElement(bottom, "span", {"class": measured.decision(shown)})
        _icon(only, measured.decision(shown))
        _text(only, "bdi", shown.label or texts[f"decision.{shown.decision}"])
        return
    for decision, count in sorted(Counter(map(measured.decision, findings)).items(), reverse=True):
        part = SubElement(bottom, "span", {"class": decision, "title": texts[f"decision.{decision}"]})
        _icon(part, decision)
        _text(part, "b", str(count))
        _text(part, "span", texts[f"decision.{decision}"], "spoken")


def _icon(parent: Element, name: str) -> None:
    svg = SubElement(parent, "svg", {"class": "icon", "aria-hidden": "true"})
    SubElement(svg, "use", href=f"#icon-{name}")


def _text(parent: Element, tag: str, text: str, kind: str | None = None) -> Element:
    element = SubElement(parent, tag, {"class": kind} if kind else {})
    element.text = text
    return element


def _size(label: str) -> str:
    return next((size for size, most in _SIZES if len(label) <= most), "long")


def _percent(p: float, texts: Mapping[str, str]) -> str:
    """Whole per cent; never a certainty that no model has."""
    number = ">99" if p > 0.99 else "<1" if p < 0.01 else f"{p * 100:.0f}"
    return texts["percent"].format(n=number)


def _local(finding: Finding) -> datetime:
    return finding.stamp.at.astimezone()


def parse(stored: StoredFinding) -> Finding:
    """The finding of a row of the store."""
    return Finding.model_validate(stored.finding)
