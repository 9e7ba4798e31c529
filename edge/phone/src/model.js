// The model in its worker, from files whose hashes are checked each time.

import { sha256 } from "./identity.js";
import { withheld } from "./withheld.js";

const MEMBERS = ["manifest.json", "model.tflite", "golden.npz", "ood.npz"];
const SCRIPT = "litert/litert_wasm_compat_internal.js";
const JUDGE_MS = 30000;

/** A file of the model is not what the app's list says, and could not be had again. */
export class DamagedError extends Error {}

/** The interpreter, or the golden vectors, refuse the model. */
export class RefusedError extends Error {}

export class Model {
  /** `files` holds the SHA-256 of each file of the app. Throws DamagedError, RefusedError. */
  static async load(files) {
    const names = MEMBERS.filter((name) => `model/${name}` in files);
    const contents = await Promise.all(names.map((name) => fetchChecked(`model/${name}`, files[`model/${name}`])));
    const model = new Model();
    model._members = Object.fromEntries(names.map((name, i) => [name, contents[i]]));
    model.manifest = JSON.parse(new TextDecoder().decode(model._members["manifest.json"]));
    await model._start();
    return model;
  }

  /** What may be said of an image; "no result" if the worker fails, or takes too long. */
  async judge(image) {
    try {
      return await this._ask({ kind: "judge", image }, JUDGE_MS);
    } catch {
      this._worker.terminate();
      await this._start();
      return withheld("engine_failed");
    }
  }

  async _start() {
    this._worker = new Worker("worker.js");
    this._next = 0;
    try {
      const { golden_difference } = await this._ask({ kind: "load", script: SCRIPT, members: this._members });
      this.golden_difference = golden_difference;
    } catch (error) {
      throw new RefusedError(error.message);
    }
  }

  _ask(message, limitMs = null) {
    const id = this._next++;
    return new Promise((resolve, reject) => {
      const timer = limitMs && setTimeout(() => reject(new Error("the analysis takes too long")), limitMs);
      this._worker.onerror = (event) => reject(new Error(event.message));
      this._worker.onmessage = ({ data }) => {
        if (data.id !== id) return;
        clearTimeout(timer);
        if ("error" in data) reject(new Error(data.error));
        else resolve(data.answer);
      };
      this._worker.postMessage({ id, ...message });
    });
  }
}

/* A damaged copy on the phone is thrown away, and fetched from the server once more. */
async function fetchChecked(path, hash) {
  for (let attempt = 0; attempt < 2; attempt++) {
    const found = await fetch(path).then((answer) => (answer.ok ? answer.arrayBuffer() : null), () => null);
    if (found && (await sha256(found)) === hash) return new Uint8Array(found);
    for (const name of await caches.keys()) await (await caches.open(name)).delete(new URL(path, location.href));
  }
  throw new DamagedError(path);
}
