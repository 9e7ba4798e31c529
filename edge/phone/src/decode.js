// The decoding worker: one file, then it is ended. It posts each frame, and waits until it is asked for more.

import { isDicom, readDicom } from "./dicom.js";
import { sha256 } from "./identity.js";
import { decodePicture } from "./images.js";
import { UnreadableError } from "./unreadable.js";

const MAX_FILE_BYTES = 256 << 20;
let frames = null;
let digest = null; // of the file, once it is known: what a failure is known by

async function* decodeFile(file) {
  if (file.size > MAX_FILE_BYTES) throw new UnreadableError("the file is too large", "too_large");
  const bytes = new Uint8Array(await file.arrayBuffer());
  const own = `sha256:${await sha256(bytes)}`;
  digest = own;
  if (!isDicom(bytes)) {
    yield { image: await decodePicture(bytes), identity: `${own}#0`, study: `${own}#0`, index: 0, header: {}, reason: null };
    return;
  }
  const { identity, study, header, frames: images } = readDicom(bytes);
  const name = identity === null ? own : `sop:${identity}`;
  for await (const [image, index, reason] of images) {
    yield { image, identity: `${name}#${index}`, study: study ?? name, index, header, reason };
  }
}

self.onmessage = async ({ data }) => {
  frames ??= decodeFile(data.file);
  try {
    const { value, done } = await frames.next();
    self.postMessage(done ? { done } : { frame: value }, done ? [] : [value.image.data.buffer]);
  } catch (error) {
    const reason = error instanceof UnreadableError ? error.reason : "unreadable";
    self.postMessage({ failure: { reason, identity: digest, why: error.message } });
  }
};
