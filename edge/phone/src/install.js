// The service worker: that the app is on the phone, and whether a newer one waits.

const SOON_MS = 10 * 60 * 1000;

/**
 * Register it; `told` hears "ready" (works without network), "full" (no room), "certificate" (the browser does
 * not trust the server), "incomplete" (a file could not be had), and "update" with a function that applies it.
 */
export async function install(told) {
  if (!navigator.serviceWorker) return told("incomplete");
  navigator.serviceWorker.addEventListener("message", ({ data }) => told(data.kind));
  let registration;
  try {
    registration = await navigator.serviceWorker.register("sw.js", { updateViaCache: "none" });
  } catch (error) {
    // Without network, an app that is installed goes on as it is.
    if (navigator.serviceWorker.controller) return told("ready");
    // Without network it is a TypeError; a certificate that was tapped away is a SecurityError without a word of it.
    const tapped = error.name === "SecurityError" && !/MIME/i.test(error.message);
    return told(location.protocol === "https:" && tapped ? "certificate" : "incomplete");
  }
  const offer = (worker) => {
    if (!navigator.serviceWorker.controller) return;
    told("update", () => {
      navigator.serviceWorker.addEventListener("controllerchange", () => location.reload(), { once: true });
      worker.postMessage({ kind: "take-over" });
    });
  };
  if (registration.active) told("ready");
  if (registration.waiting) offer(registration.waiting);
  registration.addEventListener("updatefound", () => {
    const worker = registration.installing;
    worker.addEventListener("statechange", () => {
      if (worker.state === "installed") offer(worker);
      if (worker.state === "activated") told("ready");
    });
  });
  setInterval(() => registration.update().catch(() => {}), SOON_MS);
}
