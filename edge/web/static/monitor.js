// Keeps the page current: when the monitor says that something changed, the page is asked for again and the parts
// that differ are exchanged. All texts and all markup come from the server.
"use strict";

const SILENCE_MS = 15000; // three missed signs of life
const PAUSE_MS = 700; // at most so often
// What changes them, by page; a page that is not listed waits for its reader.
const FOLLOWS = { fleet: ["fleet", "events", "findings"], findings: ["findings"], rollouts: ["fleet", "events"] };

const root = document.documentElement;
const main = () => document.getElementById("main");
let sent = main().outerHTML;
let known = null;
let loading = false;
let stale = false;
let silence = 0;

/* Times are shown as this browser's, in its language. */
function localTimes() {
  const format = new Intl.DateTimeFormat(root.lang, { dateStyle: "short", timeStyle: "short" });
  for (const time of document.querySelectorAll("time.local")) {
    time.title ||= time.textContent;
    time.textContent = format.format(new Date(time.dateTime));
  }
}

function busy() {
  // Not under the reader's hands: an open list, a half filled form, text being read or chosen.
  const active = document.activeElement;
  const typing = active?.matches("#main input:not([type=hidden]), #main select, #main textarea");
  return typing || Boolean(document.querySelector("#main details[open]")) || !getSelection().isCollapsed;
}

function exchange(page) {
  const fresh = page.getElementById("main");
  if (!fresh || fresh.outerHTML === sent) return;
  sent = fresh.outerHTML;
  const focused = document.activeElement?.id;
  const scrolled = Array.from(document.querySelectorAll(".scroll"), (box) => box.scrollLeft);
  const kept = document.querySelector("[data-keep]");
  document.adoptNode(fresh);
  if (kept) fresh.querySelector("[data-keep]")?.replaceWith(kept);
  main().replaceWith(fresh);
  document.querySelectorAll(".scroll").forEach((box, n) => (box.scrollLeft = scrolled[n] ?? 0));
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  localTimes();
}

async function load() {
  if (loading) {
    stale = true;
    return;
  }
  loading = true;
  do {
    stale = false;
    await new Promise((resolve) => setTimeout(resolve, busy() ? 2000 : 0));
    if (busy()) {
      stale = true;
      continue;
    }
    try {
      const answer = await fetch(location.href);
      if (answer.redirected && new URL(answer.url).pathname === "/login") location.reload();
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (answer.ok) exchange(page);
    } catch {
      lost();
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  } while (stale);
  loading = false;
}

function lost() {
  root.classList.add("agent-lost");
}

function alive() {
  root.classList.remove("agent-lost");
  clearTimeout(silence);
  silence = setTimeout(lost, SILENCE_MS);
}

const follows = FOLLOWS[main().dataset.page];
const events = new EventSource("/api/events");
events.onmessage = (message) => {
  alive();
  const state = JSON.parse(message.data);
  const news = JSON.stringify((follows ?? []).map((name) => state[name]));
  if (known !== null && news !== known) load();
  known = news;
};
events.onerror = lost;

document.getElementById("language")?.addEventListener("change", (event) => event.target.form.submit());

root.classList.add("live");
localTimes();
