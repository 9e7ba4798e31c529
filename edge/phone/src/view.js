// What is on the screen: the cart's screen (edge/agent/page.py), for a thumb.

import { h, icon, percent, svg, t } from "./dom.js";
import { drawHeat, drawOutline } from "./picture.js";

const MOST_LABELS = 6;
const SIZES = [
  ["short", 8],
  ["medium", 14],
];

const BUSY = ["starting", "working"];
const CONTROLS = ["top", "banners", "studies", "actions"];

const $ = (id) => document.getElementById(id);

/* What the app is at; while it is busy with one thing nothing else can be asked of it. */
function setState(state) {
  document.documentElement.dataset.state = state;
  for (const id of CONTROLS) $(id).inert = BUSY.includes(state);
}

/** Device and site, and how things stand with the broker: `state` null where results stay on the phone. */
export function showTop({ settings, state, backlog }, openSettings) {
  const known = settings.broker !== "";
  const link = !known ? "phone.local" : state !== "online" ? "link.offline" : backlog ? "link.sending" : "link.online";
  $("top").replaceChildren(
    h("p", { class: "device" }, h("bdi", {}, settings.device), h("bdi", { class: "site" }, settings.site)),
    h("p", { class: `link ${link.replace(/.*\./, "")}`, id: "link" }, t(link, { n: backlog })),
    h("button", { id: "open-settings", class: "round", "aria-label": t("phone.settings"), onclick: openSettings }, icon("settings")),
  );
  if (known && ["unreachable", "refused"].includes(state)) {
    $("top").append(h("p", { class: "why" }, t(`phone.broker_${state}`)));
  }
}

/** The lines above everything: [{id, text, warning, action: {text, run}}]. */
export function showBanners(banners) {
  $("banners").replaceChildren(
    ...banners.map(({ id, text, warning, action }) =>
      h(
        "p",
        { class: `banner${warning ? " warning" : ""}`, id: `banner-${id}`, role: warning ? "alert" : null },
        h("span", {}, text),
        action ? h("button", { onclick: action.run }, action.text) : null,
      ),
    ),
  );
}

/** A title and a text, where there is no result to show: `kind` is starting, ready, working or failed. */
export function showNotice(kind, title, text = "") {
  setState(kind);
  $("main").replaceChildren(
    h("section", { class: `empty ${kind}`, role: kind === "failed" ? "alert" : null }, h("h1", {}, title), h("p", {}, text)),
  );
  announce(`${title} ${text}`);
}

/** The viewfinder; returns its <video>. */
export function showCamera() {
  setState("camera");
  const video = h("video", { autoplay: true, playsinline: true, muted: true });
  video.muted = true; // the attribute alone does not mute an element that a script has made
  $("main").replaceChildren(h("section", { class: "camera" }, video));
  return video;
}

/** A kept result. `note` is said with it; `remove` takes it away. */
export function showResult(result, { note = "", manifest, remove }) {
  setState("result");
  const { finding } = result;
  // That a ventricle is seen makes nobody suspect anything: edge/agent/measured.py.
  const structure = finding.decision === "positive" && finding.label === (manifest.ejection_fraction ?? null);
  const decision = structure ? "outlined" : finding.decision;
  $("main").replaceChildren(
    h(
      "section",
      { class: `result ${decision}`, "data-finding": finding.id },
      h("p", { class: "decision" }, icon(decision), h("span", {}, t(`decision.${decision}`))),
      headline(finding),
      finding.reasons.map((reason) => h("p", { class: "reason" }, t(`reason.${reason}`))),
      finding.probability === null || structure
        ? null
        : h("p", { class: "probability" }, t("probability"), h("bdi", { dir: "ltr" }, percent(finding.probability))),
      note ? h("p", { class: "note" }, note) : null,
    ),
    h(
      "section",
      { class: "pictures" },
      picture(result),
      h("p", { class: "bar" }, heatButton(result), h("button", { id: "delete", onclick: remove }, t("phone.delete"))),
    ),
    h(
      "section",
      { class: "details" },
      probabilities(finding),
      facts(finding),
      finding.decision !== "no_result" && !manifest.decision.ood ? h("p", { class: "note" }, t("model.no_gate")) : null,
    ),
  );
  scrollTo(0, 0);
  announce([...document.querySelectorAll(".decision, h1, .reason, .probability")].map((e) => e.textContent).join(". "));
}

function headline({ decision, label }) {
  if (label !== null) {
    const size = SIZES.find(([, most]) => label.length <= most)?.[0] ?? "long";
    return h("h1", { class: size }, h("bdi", {}, label));
  }
  return decision === "negative" ? h("h1", { class: "long" }, t("decision.negative")) : null;
}

function probabilities({ probabilities: all, thresholds }) {
  const rows = Object.entries(all).sort(([, a], [, b]) => b - a).slice(0, MOST_LABELS);
  if (!rows.length) return null;
  return h(
    "ul",
    { class: "labels" },
    rows.map(([label, p]) => {
      const limit = Object.hasOwn(thresholds, label) ? thresholds[label] : null;
      return h(
        "li",
        {},
        h("bdi", {}, label),
        meter(p, limit),
        h("bdi", { class: "number", dir: "ltr" }, percent(p)),
        limit === null ? null : h("small", {}, t("threshold", { p: percent(limit) })),
      );
    }),
  );
}

function meter(value, limit) {
  // The number beside it says the same in words.
  const shape = { class: "meter", viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" };
  const at = 100 * limit;
  const line = limit === null ? [] : [svg("line", { x1: at, x2: at, y1: 0, y2: 1 })];
  return svg("svg", shape, svg("rect", { width: 100 * value, height: 1 }), ...line);
}

function facts(finding) {
  const at = new Date(finding.stamp.at);
  const today = at.toDateString() === new Date().toDateString();
  const two = (n) => String(n).padStart(2, "0");
  const clock = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
  const date = [at.getFullYear(), at.getMonth() + 1, at.getDate()].map(two).join("-");
  const believed = finding.stamp.clock_trusted ? "" : ` (${t("clock.untrusted")})`;
  const rows = {
    case: finding.case_code,
    time: `${today ? "" : `${date} `}${clock}${believed}`,
    source: t(`phone.source_${finding.source}`),
    frame: String(finding.frame + 1),
    model: `${finding.bundle.name} ${finding.bundle.version}`,
  };
  if ("total" in finding.elapsed_ms) rows.duration = t("milliseconds", { n: Math.round(finding.elapsed_ms.total) });
  return h(
    "dl",
    {},
    Object.entries(rows).map(([key, value]) =>
      h("div", { class: key }, h("dt", {}, t(`field.${key}`)), h("dd", {}, h("bdi", {}, value))),
    ),
  );
}

function picture({ picture: blob, cam, mask, region }) {
  if (!blob) return h("p", { class: "none" }, t("image.none"));
  const url = URL.createObjectURL(blob);
  const image = h("img", { src: url, alt: t("image.plain") });
  const canvas = h("canvas", { class: "heat", "aria-hidden": "true" });
  image.addEventListener("load", () => {
    URL.revokeObjectURL(url);
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    if (mask) drawOutline(canvas, mask, region);
    else if (cam) drawHeat(canvas, cam, region);
  });
  const caption = h("figcaption", {}, h("span", { class: "heat" }, t(mask ? "image.outline" : cam ? "image.heat" : "image.plain")), h("span", { class: "plain" }, t("image.plain")));
  return h("figure", {}, image, canvas, caption);
}

function heatButton({ cam, mask, picture: blob }) {
  if (!(cam || mask) || !blob) return null;
  const { dataset } = document.documentElement;
  const toggle = ({ currentTarget }) => {
    dataset.heat = dataset.heat === "off" ? "on" : "off";
    currentTarget.setAttribute("aria-pressed", String(dataset.heat !== "off"));
  };
  return h("button", { id: "heat", "aria-pressed": String(dataset.heat !== "off"), onclick: toggle }, t(mask ? "outline.toggle" : "heat.toggle"));
}

/** The kept results, a study each, newest first; `open` shows one. */
export function showStudies(results, chosen, open) {
  const studies = Map.groupBy ? Map.groupBy(results, ({ finding }) => finding.study) : grouped(results);
  const cards = [...studies.values()].map((all) => {
    const shown = mostSuspicious(all);
    const { finding } = shown;
    const current = chosen && chosen.finding.study === finding.study;
    const at = new Date(all[0].finding.stamp.at);
    return h(
      "li",
      {},
      h(
        "button",
        { class: "study", "aria-current": current ? "true" : null, onclick: () => open(shown) },
        h("span", { class: "head" }, h("bdi", {}, finding.case_code), h("time", {}, at.toTimeString().slice(0, 5))),
        h("span", { class: "tail" }, all.length === 1 ? decided(finding) : counts(all)),
      ),
    );
  });
  $("studies").replaceChildren(
    h("h2", {}, t("studies")),
    cards.length ? h("ul", {}, cards) : h("p", { class: "none" }, t("studies.none")),
  );
}

/** Of several results the most probable positive, else the newest: `results` are the newest first. */
export function mostSuspicious(results) {
  const rank = ({ finding }) => (finding.decision === "positive" ? finding.probability : 0);
  return results.reduce((best, other) => (rank(other) > rank(best) ? other : best));
}

function grouped(results) {
  const found = new Map();
  for (const result of results) {
    const { study } = result.finding;
    if (!found.has(study)) found.set(study, []);
    found.get(study).push(result);
  }
  return found;
}

function decided({ decision, label }) {
  return h("span", { class: decision }, icon(decision), h("bdi", {}, label ?? t(`decision.${decision}`)));
}

function counts(results) {
  return ["positive", "no_result", "negative"]
    .map((decision) => [decision, results.filter(({ finding }) => finding.decision === decision).length])
    .filter(([, count]) => count)
    .map(([decision, count]) =>
      h(
        "span",
        { class: decision, title: t(`decision.${decision}`) },
        icon(decision),
        h("b", {}, String(count)),
        h("span", { class: "spoken" }, t(`decision.${decision}`)),
      ),
    );
}

/** The buttons under the thumb: [{id, text, icon, run, first}]. */
export function showActions(actions) {
  $("actions").replaceChildren(
    ...actions.map(({ id, text, picture: name, run, first }) =>
      h("button", { id, class: first ? "first" : "", onclick: run }, name ? icon(name) : null, h("span", {}, text)),
    ),
  );
}

function announce(text) {
  $("announce").textContent = text;
}
