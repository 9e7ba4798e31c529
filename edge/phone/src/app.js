// The app: what is done with what the person gives, one thing at a time.

import { Connection } from "./connection.js";
import { covers } from "./covers.js";
import { askSettings, confirm } from "./dialogs.js";
import { h, loadTexts, t } from "./dom.js";
import { Identity, newSecret } from "./identity.js";
import { install } from "./install.js";
import { birth, finding, health } from "./messages.js";
import { DamagedError, Model, RefusedError } from "./model.js";
import { toJpeg } from "./picture.js";
import { seenRegion } from "./region.js";
import { cameraFrame, framesOf, openCamera, SourceError } from "./sources.js";
import { StorageFullError, Store } from "./store.js";
import * as view from "./view.js";
import { withheld } from "./withheld.js";

const LISTED = 100; // results in the strip
const UNSET = { site: "local", device: "phone", broker: "", username: "", password: "", receipts: false };
const REPLACED_MS = 3000; // within which a page that is left has gone
const TIMES = 100; // of which the median is told

const counters = { frames: 0, findings: 0, lastFrame: null, inferenceMs: null };
const banners = new Map();
const inferenceTimes = [];

let app, settings, language, store, identity, model;
let connection = null;
let state = null; // of the connection
let chosen = null; // the result that is shown
let stream = null; // of the camera

async function start() {
  language = await loadTexts();
  banner("support", { text: t("banner.support") });
  if (!isSecureContext || !crypto.subtle) return fail("phone.insecure");
  if (!("locks" in navigator && "OffscreenCanvas" in self && "DecompressionStream" in self)) return fail("phone.old_browser");
  view.showNotice("starting", t("phone.starting"));
  if (!(await alone())) return fail("phone.second_window");
  install(installed);
  try {
    store = await Store.open();
    settings = (await store.kept("settings")) ?? UNSET;
    if (settings.language) language = await loadTexts(settings.language);
    identity = new Identity(await secret());
  } catch {
    return fail("phone.no_storage");
  }
  banner("support", { text: t("banner.support") });
  return startModel();
}

async function startModel() {
  try {
    const described = await (await fetch("app.json")).json();
    app = { ...described, floor: Date.parse(described.made) };
    model = await Model.load(app.files);
  } catch (error) {
    if (error instanceof RefusedError) return fail("phone.model_refused", error.message);
    return fail("phone.model_damaged", error instanceof DamagedError ? error.message : "");
  }
  if (!app.bundle.signed) banner("unsigned", { text: t("banner.unsigned"), warning: true });
  connect();
  return showReady();
}

/* A second window would take the first one's place at the broker, and the other way round. A page that is being
   loaded again waits for the one that it replaces. */
function alone() {
  return new Promise((resolve) => {
    const held = () => {
      resolve(true);
      return new Promise(() => {}); // as long as the page is there
    };
    const options = { signal: AbortSignal.timeout(REPLACED_MS) };
    navigator.locks.request("scanwright", options, held).catch(() => resolve(false));
  });
}

async function secret() {
  const kept = await store.kept("secret");
  if (kept) return kept;
  const made = await newSecret();
  await store.keep("secret", made);
  return made;
}

function installed(kind, apply) {
  if (kind === "ready") {
    document.documentElement.dataset.offline = "ready";
    navigator.storage?.persist?.();
    for (const name of ["incomplete", "full"]) banner(name, null);
  } else if (kind === "update") {
    banner(kind, { text: t("phone.update"), action: { text: t("phone.update_now"), run: apply } });
  } else {
    banner(kind, { text: t(`phone.install_${kind}`), warning: true });
  }
}

function banner(id, said) {
  if (said) banners.set(id, { id, ...said });
  else banners.delete(id);
  view.showBanners([...banners.values()]);
}

function fail(key, detail = "") {
  view.showNotice("failed", t(key), [t(`${key}_do`), detail].filter(Boolean).join(" "));
  view.showActions([]);
}

// The broker

function connect() {
  connection?.stop();
  connection = null;
  state = null;
  if (settings.broker) {
    const changed = (to) => {
      state = to;
      showTop();
    };
    connection = new Connection(settings, store, {
      birth: () => birth(app, settings),
      health: () => health(app, counters, store),
      changed,
    });
  }
  showTop();
}

async function showTop() {
  view.showTop({ settings, state, backlog: await store.backlog() }, changeSettings);
}

addEventListener("online", () => connection?.wake());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") connection?.wake();
  else closeCamera();
});

// Pictures

async function take(frames, several) {
  view.showNotice("working", t("phone.working"));
  view.showActions([]);
  const results = [];
  try {
    for await (const frame of frames) {
      results.push(await judge(frame));
      if (several && results.length > 1) view.showNotice("working", t("phone.working"), String(results.length));
    }
  } catch (error) {
    if (!(error instanceof SourceError)) throw error;
    const { identity: lost, reason } = error;
    const frame = { image: null, identity: `${lost}#0`, study: lost, source: "file", index: 0, header: {} };
    results.push(await keep(frame, withheld(reason), performance.now()));
  }
  if (!results.length) return showReady();
  const note = results.length > 1 ? t("phone.frames", { n: results.length }) : "";
  return show(view.mostSuspicious(results.reverse()), note);
}

async function judge(frame) {
  const begun = performance.now();
  counters.frames += 1;
  counters.lastFrame = new Date().toISOString();
  if (!covers(model.manifest.intended_use, frame.header)) return keep(frame, withheld("not_covered"), begun);
  if (frame.reason) return keep(frame, withheld(frame.reason), begun);
  const outcome = await model.judge(frame.image);
  if ("infer" in outcome.elapsed_ms) {
    inferenceTimes.push(outcome.elapsed_ms.infer);
    if (inferenceTimes.length > TIMES) inferenceTimes.shift();
    counters.inferenceMs = [...inferenceTimes].sort((a, b) => a - b)[inferenceTimes.length >> 1];
  }
  return keep(frame, outcome, begun);
}

/* Keep a result, and what is to be told of it; one that cannot be kept is shown, and that it is not. */
async function keep(frame, outcome, begun) {
  const { cam, mask, region, ...said } = outcome;
  said.elapsed_ms = { ...said.elapsed_ms, total: performance.now() - begun };
  const told = await finding({ app, settings, identity, frame, outcome: said });
  const { image } = frame;
  const seen = region ?? (image && seenRegion(model.manifest.steps, image.height, image.width));
  const picture = image ? await toJpeg(image, seen) : null;
  const result = { id: told.id, finding: told, picture, cam, mask, region: seen };
  const message = settings.broker ? { id: told.id, at: Date.now(), payload: told } : null;
  try {
    if (!(await store.add(result, message))) return await store.byId(told.id);
    banner("storage", null);
    counters.findings += 1;
    connection?.wake();
  } catch (error) {
    if (!(error instanceof StorageFullError)) throw error;
    banner("storage", { text: t("phone.storage_full"), warning: true });
  }
  return result;
}

// What is shown

async function showReady() {
  closeCamera();
  chosen = null;
  view.showNotice("ready", t("phone.ready"), t("phone.ready_text"));
  offer();
  await showKept();
}

async function show(result, note = "") {
  closeCamera();
  chosen = result;
  view.showResult(result, { note, manifest: model.manifest, remove });
  offer();
  await showKept();
}

async function showKept() {
  await showTop();
  view.showStudies(await store.newest(LISTED), chosen, (result) => show(result));
}

function offer() {
  view.showActions([
    { id: "open", text: t("phone.open"), picture: "open", run: openFile },
    { id: "camera", text: t("phone.camera"), picture: "camera", run: useCamera, first: true },
  ]);
}

async function remove() {
  if (!(await confirm(t("phone.confirm_one"), t("phone.delete")))) return;
  if (chosen.order !== undefined) await store.forget(chosen.order);
  else await store.byId(chosen.id).then((kept) => kept && store.forget(kept.order));
  banner("storage", null);
  await showReady();
}

async function removeAll() {
  document.getElementById("settings").close("cancel");
  if (!(await confirm(t("phone.confirm_all"), t("phone.delete_all")))) return;
  await store.forgetAll();
  banner("storage", null);
  await showReady();
}

function openFile() {
  const accept = "image/*,video/*,.dcm,.dicom,application/dicom,application/octet-stream";
  const input = h("input", { type: "file", id: "file", accept });
  input.addEventListener("change", () => input.files.length && take(framesOf(input.files[0]), true).catch(defect));
  document.getElementById("actions").append(input);
  input.click();
}

async function useCamera() {
  const video = view.showCamera();
  const study = `live:${crypto.randomUUID()}`;
  view.showActions([{ id: "close", text: t("phone.close"), run: showReady }]);
  try {
    const opened = await openCamera(video);
    if (!video.isConnected) return opened.getTracks().forEach((track) => track.stop()); // left meanwhile
    stream = opened;
  } catch (error) {
    if (!video.isConnected) return undefined;
    const denied = ["NotAllowedError", "SecurityError"].includes(error.name);
    const key = denied ? "phone.camera_denied" : error.name === "NotFoundError" ? "phone.no_camera" : "phone.camera_busy";
    view.showNotice("camera-failed", t(key), t(`${key}_do`));
    return offer();
  }
  const shoot = () => {
    if (!video.videoWidth) return undefined;
    const frame = cameraFrame(video, study);
    closeCamera();
    return take([frame], false).catch(defect);
  };
  return view.showActions([
    { id: "close", text: t("phone.close"), run: showReady },
    { id: "shoot", text: t("phone.shoot"), picture: "camera", run: shoot, first: true },
  ]);
}

function closeCamera() {
  if (!stream) return;
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  if (document.documentElement.dataset.state === "camera" && document.visibilityState === "hidden") showReady();
}

async function changeSettings() {
  const { name, version, sha256 } = app.bundle;
  const about = `${name} ${version} · ${sha256.slice(0, 12)} · scanwright ${app.version} · ${t("phone.self_test", { n: model.golden_difference })}`;
  const given = await askSettings(settings, language, { about, forgetAll: removeAll });
  if (!given) return;
  try {
    await store.keep("settings", given);
  } catch (error) {
    if (!(error instanceof StorageFullError)) throw error;
    banner("storage", { text: t("phone.storage_full"), warning: true });
    return;
  }
  settings = given;
  if (settings.language !== language) {
    location.reload();
    return;
  }
  connect();
}

/* What nobody foresaw is no result either. */
function defect(error) {
  fail("phone.defect", error?.message);
  view.showActions([{ id: "close", text: t("phone.close"), run: () => location.reload() }]);
}

start().catch(defect);
