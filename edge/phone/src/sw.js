// The service worker: keeps the whole app on the phone, each file as the list says it is, and serves it from there.
// Before this text stand FILES, the SHA-256 of each file by its path, and POLICY, the content security policy.
"use strict";

/* global FILES, POLICY, LIST */
const CACHE = `scanwright-${LIST}`;
const TYPES = {
  css: "text/css; charset=utf-8",
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  json: "application/json",
  png: "image/png",
  svg: "image/svg+xml",
  txt: "text/plain; charset=utf-8",
  wasm: "application/wasm",
  webmanifest: "application/manifest+json",
};

async function fetchChecked(path) {
  const answer = await fetch(path, { cache: "no-cache" });
  const bytes = await answer.arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (!answer.ok || found !== FILES[path]) throw new Error(`${path} is not the file that the list names`);
  const headers = {
    "Content-Type": TYPES[path.split(".").pop()] ?? "application/octet-stream",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
  };
  return new Response(bytes, { headers });
}

async function tell(kind) {
  for (const client of await self.clients.matchAll({ includeUncontrolled: true })) client.postMessage({ kind });
}

async function keepAll() {
  const cache = await caches.open(CACHE);
  try {
    for (const path of Object.keys(FILES)) {
      if (!(await cache.match(path))) await cache.put(path, await fetchChecked(path));
    }
  } catch (error) {
    await tell(error.name === "QuotaExceededError" ? "full" : "incomplete");
    throw error;
  }
}

async function serve(path) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(path);
  if (kept) return kept;
  const fresh = await fetchChecked(path); // a damaged copy was thrown away
  cache.put(path, fresh.clone()).catch(() => {});
  return fresh;
}

self.addEventListener("install", (event) => event.waitUntil(keepAll()));

self.addEventListener("activate", (event) => {
  const dropOld = async () => {
    for (const name of await caches.keys()) {
      if (name.startsWith("scanwright-") && name !== CACHE) await caches.delete(name);
    }
    await self.clients.claim();
  };
  event.waitUntil(dropOld());
});

self.addEventListener("message", ({ data }) => {
  if (data?.kind === "take-over") self.skipWaiting();
});

self.addEventListener("fetch", (event) => {
  const { scope } = self.registration;
  const { origin, pathname } = new URL(event.request.url);
  const address = origin + pathname;
  if (event.request.method !== "GET" || !address.startsWith(scope)) return;
  const path = address.slice(scope.length) || "index.html";
  if (Object.hasOwn(FILES, path)) event.respondWith(serve(path));
});
