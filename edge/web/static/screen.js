// Keeps the screen live: when the agent says that something changed, the page is asked for again and the
// parts that differ are exchanged. All texts and all markup come from the server.
"use strict";

const SILENCE_MS = 15000; // three missed signs of life: the agent is gone
const IDLE_MS = 120000; // an earlier result that nobody looks through gives way to the latest
const PAUSE_MS = 300; // at most so often, for clips
const PARTS = ["top", "banners", "main", "studies"];

const root = document.documentElement;
const sent = new Map(PARTS.map((id) => [id, document.getElementById(id).outerHTML]));
let known = null;
let loading = false;
let stale = false;
let silence = 0;
let idle = 0;
let closing = 0;

function shown() {
  return document.querySelector("[data-finding]")?.dataset.finding;
}

function applyHeat() {
  document.getElementById("heat")?.setAttribute("aria-pressed", String(root.dataset.heat !== "off"));
}

function toggleHeat() {
  root.dataset.heat = root.dataset.heat === "off" ? "on" : "off";
  applyHeat();
}

function exchange(page) {
  const before = shown();
  const focused = document.activeElement?.id;
  const scrolled = document.querySelector("#studies ul")?.scrollLeft ?? 0;
  for (const id of PARTS) {
    const fresh = page.getElementById(id);
    if (sent.get(id) === fresh.outerHTML) continue;
    sent.set(id, fresh.outerHTML);
    document.getElementById(id).replaceWith(document.adoptNode(fresh));
  }
  applyHeat();
  applyLock();
  const strip = document.querySelector("#studies ul");
  if (strip) strip.scrollLeft = scrolled;
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  if (shown() !== before) {
    document.getElementById("announce").textContent = Array.from(
      document.querySelectorAll(".result .decision, .result h1, .result .reason, .result .probability"),
      (element) => element.textContent,
    ).join(". ");
  }
}

/* At its time the lock closes: the names go from the page, whether or not the agent answers. */
function applyLock() {
  clearTimeout(closing);
  const until = document.querySelector(".patient")?.dataset.until;
  if (until) closing = setTimeout(hidePatient, Math.max(0, until * 1000 - Date.now()));
}

function hidePatient() {
  for (const patient of document.querySelectorAll(".patient")) patient.remove();
  sent.delete("main");
  load();
}

async function load() {
  if (loading) {
    stale = true;
    return;
  }
  loading = true;
  do {
    stale = false;
    const address = location.href;
    try {
      const answer = await fetch(address);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      // Not if the user has moved on meanwhile, nor if this is no page of ours.
      if (answer.ok && address === location.href) exchange(page);
    } catch {
      lost();
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  } while (stale);
  loading = false;
}

function go(address) {
  history.replaceState(null, "", address);
  loading ? (stale = true) : load();
}

function lost() {
  root.classList.add("agent-lost");
  known = null;
}

function alive() {
  root.classList.remove("agent-lost");
  clearTimeout(silence);
  silence = setTimeout(lost, SILENCE_MS);
}

function touched() {
  clearTimeout(idle);
  idle = setTimeout(() => location.search && go("/"), IDLE_MS);
}

/* The cart's name, shown because somebody far away asked for it, never keeps anybody from a result. */
function uncover() {
  const name = document.querySelector(".identify");
  name?.remove();
  return name;
}

const events = new EventSource("/api/events");
events.onmessage = (message) => {
  alive();
  if (message.data === known) return;
  known = message.data;
  load();
};
events.onerror = lost;

document.addEventListener("click", (event) => {
  touched();
  if (uncover()) return undefined;
  if (event.target.closest("#heat")) return toggleHeat();
  const link = event.target.closest("a[href='/'], a[href^='/?']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return undefined;
  event.preventDefault();
  return go(link.getAttribute("href"));
});

document.addEventListener("keydown", (event) => {
  touched();
  if (event.ctrlKey || event.metaKey || event.altKey || uncover()) return;
  const rightToLeft = root.dir === "rtl";
  const links = {
    ArrowLeft: rightToLeft ? "older" : "newer",
    ArrowRight: rightToLeft ? "newer" : "older",
    Home: "latest",
  };
  if (event.key === "h" || event.key === "H") {
    toggleHeat();
  } else if (links[event.key]) {
    event.preventDefault();
    const address = document.getElementById(links[event.key])?.getAttribute("href");
    if (address) go(address);
  }
});

root.classList.add("live");
applyHeat();
applyLock();
touched();
