// The analysis worker: the model, and what it says of images. It answers each message by its `id`.

import { Predictor } from "./predictor.js";
import { withheld } from "./withheld.js";

let predictor = null;

async function load({ script, members }) {
  predictor = await Predictor.create(script, members);
  return { golden_difference: predictor.golden_difference };
}

function judge({ image }) {
  try {
    return predictor.judge(image);
  } catch {
    return withheld("engine_failed");
  }
}

self.onmessage = async ({ data: { id, kind, ...message } }) => {
  try {
    const answer = kind === "load" ? await load(message) : judge(message);
    self.postMessage({ id, answer });
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
};
