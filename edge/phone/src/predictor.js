// Predictor: from an image to what the model says of it; edge/inference/predictor.py.

import { decide } from "./decision.js";
import { Engine, EngineError } from "./engine.js";
import { layout } from "./layout.js";
import { readNpz } from "./npz.js";
import { check, measure } from "./quality.js";
import { peak, seenRegion } from "./region.js";
import { applySteps, StepError } from "./steps.js";
import { withheld } from "./withheld.js";

/** The bundle is not what its manifest says. */
export class BundleError extends Error {}

const LIMITS = { int8: [Int8Array, -128, 127], uint8: [Uint8Array, 0, 255] };

/** Runs one bundle's model, which its golden vectors have proven on this phone. */
export class Predictor {
  /**
   * `members` holds manifest.json, model.tflite, golden.npz and, where the manifest has a limit, ood.npz.
   * `golden_difference` of the result is the largest difference found, in steps. Throws BundleError, EngineError.
   */
  static async create(script, members) {
    const manifest = JSON.parse(new TextDecoder().decode(members["manifest.json"]));
    const predictor = new Predictor();
    predictor.manifest = manifest;
    predictor._table = quantizationTable(manifest.input);
    predictor._ood = manifest.decision.ood ? readOod(members["ood.npz"], manifest.decision.ood) : null;
    predictor._engine = await Engine.create(script, members["model.tflite"]);
    predictor._checkShapes();
    predictor.golden_difference = predictor._replay(readNpz(members["golden.npz"]));
    return predictor;
  }

  /** The input tensor of an image {height, width, channels, data}: the Steps, then quantization. */
  quantize(modelImage) {
    const { channels, data } = modelImage;
    const Type = this._table[0].constructor;
    if (this._table.length === 1) return Type.from(data, (p) => this._table[0][p]);
    return Type.from(data, (p, i) => this._table[i % channels][p]);
  }

  /** What may be said of an image: an outcome with evidence, a heat map `cam` or null, and `elapsed_ms`. */
  judge(image) {
    const times = [performance.now()];
    const lap = () => times.push(performance.now());
    let modelImage;
    try {
      modelImage = applySteps(image, this.manifest.steps);
    } catch (error) {
      if (error instanceof StepError) return withheld("too_small");
      throw error;
    }
    const tensor = this.quantize(modelImage);
    lap();
    const quality = measure(image, modelImage);
    lap();
    let raw;
    try {
      raw = this._engine.run(tensor);
    } catch (error) {
      if (error instanceof EngineError) return withheld("engine_failed");
      throw error;
    }
    lap();
    const said = this._dequantized(raw);
    if (this._ood?.layout_side) said.layout = layout(modelImage, this._ood.layout_side);
    const reasons = check(quality, this.manifest.quality);
    const { ood_score, ood_limit, ...outcome } = decide({ ...said, reasons }, this.manifest, this._ood);
    const region = seenRegion(this.manifest.steps, image.height, image.width);
    const cam = outcome.label === null ? null : this._activation(said.cam, outcome.label);
    lap();
    const [prepare, measured, infer, decided] = times.slice(1).map((time, i) => time - times[i]);
    const evidence = { ood_score, ood_limit, quality, peak: cam && peak(cam, region) };
    const mask = said.mask && outcome.decision !== "no_result" ? this._classes(said.mask) : null;
    if (mask) evidence.area = this._areas(mask);
    return { ...outcome, evidence, cam, mask, region, elapsed_ms: { prepare, quality: measured, infer, decide: decided } };
  }

  _checkShapes() {
    const { height, width, channels, dtype } = this.manifest.input;
    same("input", this._engine.input, { dtype, shape: [1, height, width, channels] });
    for (const spec of this.manifest.outputs) same(spec.name, this._engine.outputs[spec.index], spec);
  }

  _replay({ inputs, outputs, tolerance }) {
    const spec = this.manifest.outputs.find(({ name }) => name === "logits");
    const size = this._engine.input.shape.reduce((a, b) => a * b);
    const classes = spec.shape[1];
    const [count] = inputs.shape;
    let largest = 0;
    if (count < 2 || outputs.values.length !== count * classes || inputs.values.length !== count * size) {
      throw new BundleError("the golden vectors do not fit the model");
    }
    for (let i = 0; i < count; i++) {
      const found = this._engine.run(inputs.values.subarray(i * size, (i + 1) * size))[spec.index];
      for (let c = 0; c < classes; c++) {
        largest = Math.max(largest, Math.abs(found[c] - outputs.values[i * classes + c]));
      }
    }
    // "not <=": a difference that is no number is too large.
    if (!(largest <= Number(tolerance.values[0]))) {
      throw new BundleError(`golden vectors differ by ${largest} steps; ${tolerance.values[0]} are allowed`);
    }
    return largest;
  }

  _dequantized(raw) {
    const said = {};
    for (const { name, index, dtype, scale, zero_point } of this.manifest.outputs) {
      const factor = Math.fround(scale);
      const real = (value) => (value - zero_point) * factor; // rounded to float32 by the array
      said[name] = dtype === "float32" ? raw[index] : Float32Array.from(raw[index], real);
    }
    return said;
  }

  _activation(cam, label) {
    if (!cam) return null;
    const [, height, width, classes] = this.manifest.outputs.find(({ name }) => name === "cam").shape;
    const at = this.manifest.labels.indexOf(label);
    return { height, width, values: cam.filter((_, i) => i % classes === at) };
  }

  /* The class of each place of the mask. */
  _classes(mask) {
    const [, height, width, count] = this.manifest.outputs.find(({ name }) => name === "mask").shape;
    const values = Uint8Array.from({ length: height * width }, (_, i) => {
      const place = mask.subarray(i * count, (i + 1) * count);
      return place.indexOf(Math.max(...place));
    });
    return { height, width, values };
  }

  _areas({ values }) {
    const counts = new Array(this.manifest.labels.length).fill(0);
    for (const value of values) counts[value]++;
    return Object.fromEntries(this.manifest.labels.map((label, i) => [label, counts[i] / values.length]));
  }
}

/* Tensor value of every pixel value, for all channels or for each. */
function quantizationTable({ dtype, scale, zero_point, mean, std }) {
  return Array.from({ length: Math.max(mean.length, std.length) }, (_, c) => {
    const pixel = (p) => (p - mean[c % mean.length]) / std[c % std.length];
    if (dtype === "float32") return Float32Array.from({ length: 256 }, (_, p) => pixel(p));
    const [Type, least, most] = LIMITS[dtype];
    const step = (p) => Math.min(Math.max(halfToEven(pixel(p) / scale) + zero_point, least), most);
    return Type.from({ length: 256 }, (_, p) => step(p));
  });
}

function halfToEven(value) {
  const down = Math.floor(value);
  if (value - down !== 0.5) return Math.round(value);
  return down % 2 ? down + 1 : down;
}

function readOod(bytes, said) {
  const arrays = bytes ? readNpz(bytes) : {};
  const { mean, whitening, limit, layout_mean = NOTHING, layout_whitening = NOTHING } = arrays;
  const side = Math.sqrt(layout_mean.shape[0]);
  if (!isGaussian(mean, whitening) || !isGaussian(layout_mean, layout_whitening)) {
    throw new BundleError("ood.npz: needs finite float32 mean [D] and whitening [D, k]");
  }
  // "not <=": a limit that is no number is another one.
  if (!(Math.abs(limit?.values[0] - said.limit) <= 1e-6 * said.limit) || side !== (said.layout ?? 0)) {
    throw new BundleError("ood.npz and the manifest have different limits");
  }
  const values = Object.entries({ mean, whitening, layout_mean, layout_whitening });
  return { ...Object.fromEntries(values.map(([name, array]) => [name, array.values])), layout_side: side };
}

const NOTHING = { shape: [0, 0], values: new Float32Array(0) };

function isGaussian(mean, whitening) {
  const floats = [mean, whitening].every((array) => array?.values instanceof Float32Array);
  if (!floats || ![mean, whitening].every((array) => array.values.every(Number.isFinite))) return false;
  const fits = mean.shape.length === 1 && whitening.shape.length === 2 && whitening.shape[0] === mean.shape[0];
  return fits || mean === NOTHING;
}

function same(name, found, said) {
  if (found?.dtype !== said.dtype || String(found.shape) !== String(said.shape)) {
    throw new BundleError(`${name} is ${found?.dtype} [${found?.shape}], not ${said.dtype} [${said.shape}]`);
  }
}
