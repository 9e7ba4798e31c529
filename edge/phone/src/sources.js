// Where frames come from: the camera, a video, or a file that is decoded in a worker of its own.

import { withoutAlpha } from "./pixels.js";

const DECODE_MS = 60000;
const SEEK_MS = 10000;
const MOST_FRAMES = 30; // of a video, evenly spaced

/** Nothing came of a file: a reason's code, and the identity that a finding of it gets. */
export class SourceError extends Error {
  constructor(reason, identity) {
    super(reason);
    this.reason = reason;
    this.identity = identity ?? `lost:${crypto.randomUUID()}`;
  }
}

/** The frames of a file {image, identity, study, source, index, header}. Throws SourceError. */
export async function* framesOf(file) {
  const frames = file.type.startsWith("video/") ? videoFrames(file) : decodedFrames(file);
  for await (const frame of frames) yield { ...frame, source: "file" };
}

/** What a playing <video> shows now. */
export function cameraFrame(video, study) {
  const image = grab(video);
  return { image, identity: `${study}#${crypto.randomUUID()}`, study, source: "camera", index: 0, header: {} };
}

/** Show the rear camera in a <video>; returns the stream, to be stopped. Rejects as getUserMedia does. */
export async function openCamera(video) {
  if (!navigator.mediaDevices?.getUserMedia) throw new DOMException("no camera", "NotFoundError");
  const wanted = { facingMode: { ideal: "environment" }, width: { ideal: 1920 }, height: { ideal: 1080 } };
  const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
  video.srcObject = stream;
  await video.play();
  return stream;
}

async function* decodedFrames(file) {
  const worker = new Worker("decode.js");
  try {
    for (;;) {
      const { frame, done, failure } = await next(worker, file);
      if (failure) throw new SourceError(failure.reason, failure.identity);
      if (done) return;
      yield frame;
    }
  } finally {
    worker.terminate();
  }
}

/* A file that takes too long, or ends the worker, costs itself. */
function next(worker, file) {
  return new Promise((resolve) => {
    const lost = () => resolve({ failure: { reason: "unreadable" } });
    const timer = setTimeout(lost, DECODE_MS);
    worker.onerror = lost;
    worker.onmessage = ({ data }) => {
      clearTimeout(timer);
      resolve(data);
    };
    worker.postMessage({ file });
  });
}

async function* videoFrames(file) {
  const study = `video:${file.name}:${file.size}:${file.lastModified}`;
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.src = URL.createObjectURL(file);
  try {
    await event(video, "loadeddata");
    const { duration } = video;
    const count = Number.isFinite(duration) ? Math.max(1, Math.min(MOST_FRAMES, Math.floor(duration * 5))) : 1;
    for (let index = 0; index < count; index++) {
      if (index) {
        video.currentTime = (duration * index) / count;
        await event(video, "seeked");
      }
      yield { image: grab(video), identity: `${study}#${index}`, study, index, header: {} };
    }
  } catch (error) {
    throw error instanceof SourceError ? error : new SourceError("unreadable", study);
  } finally {
    URL.revokeObjectURL(video.src);
  }
}

function event(video, name) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("the video stands still")), SEEK_MS);
    const settle = (end) => () => {
      clearTimeout(timer);
      end(new Error("the video cannot be played"));
    };
    video.addEventListener(name, settle(resolve), { once: true });
    video.addEventListener("error", settle(reject), { once: true });
  });
}

function grab(video) {
  const { videoWidth: width, videoHeight: height } = video;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(video, 0, 0);
  return withoutAlpha(context.getImageData(0, 0, width, height));
}
