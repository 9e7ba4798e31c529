// Image quality: the measures and limits of edge/imaging/quality.py.

import { grayscale } from "./steps.js";

const SAMPLED_SIDE = 160;
const BLANK = 1.5;

/** Measure a frame, and the same after the Steps: {side, brightness, contrast, sharpness, colour}. */
export function measure(image, modelImage) {
  const side = Math.min(image.height, image.width);
  const sampled = sample(image, Math.max(1, Math.floor(side / SAMPLED_SIDE)));
  const [brightness, contrast] = meanAndDeviation(grayscale(sampled).data);
  const modelGray = grayscale(modelImage);
  const [, spread] = meanAndDeviation(modelGray.data);
  const [, roughness] = meanAndDeviation(laplacian(modelGray));
  return {
    side,
    brightness,
    contrast,
    sharpness: spread ? (roughness / spread) ** 2 : 0,
    colour: colour(sampled),
  };
}

/** Why an image with these measures gets no result: codes, empty if nothing is wrong. */
export function check(measures, limits) {
  const reasons = measures.side < limits.min_side ? ["too_small"] : [];
  const { brightness, contrast, sharpness } = measures;
  if (contrast < Math.min(BLANK, limits.contrast.min)) return [...reasons, "blank"];
  if (brightness < limits.brightness.min) reasons.push("too_dark");
  if (brightness > limits.brightness.max) reasons.push("too_bright");
  if (contrast < limits.contrast.min) reasons.push("low_contrast");
  if (sharpness < limits.sharpness.min) reasons.push("blurred");
  if (sharpness > limits.sharpness.max || contrast > limits.contrast.max) reasons.push("noisy");
  if (measures.colour > limits.max_colour) reasons.push("unexpected_colour");
  return reasons;
}

function sample({ height, width, channels, data }, stride) {
  const rows = Math.ceil(height / stride);
  const columns = Math.ceil(width / stride);
  const result = new Uint8Array(rows * columns * channels);
  let out = 0;
  for (let y = 0; y < height; y += stride) {
    for (let x = 0; x < width; x += stride) {
      const at = (y * width + x) * channels;
      for (let c = 0; c < channels; c++) result[out++] = data[at + c];
    }
  }
  return { height: rows, width: columns, channels, data: result };
}

function meanAndDeviation(values) {
  let [sum, squares] = [0, 0];
  for (const value of values) {
    sum += value;
    squares += value * value;
  }
  const mean = sum / values.length;
  return [mean, Math.sqrt(Math.max(0, squares / values.length - mean * mean))];
}

/* Four neighbours; beyond the edge the image is reflected about its outermost pixels. */
function laplacian({ height, width, data }) {
  const result = new Int16Array(data.length);
  const reflect = (at, side) => (side === 1 ? 0 : at < 0 ? 1 : at >= side ? side - 2 : at);
  for (let y = 0; y < height; y++) {
    const above = reflect(y - 1, height) * width;
    const below = reflect(y + 1, height) * width;
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      const sides = data[y * width + reflect(x - 1, width)] + data[y * width + reflect(x + 1, width)];
      result[at] = data[above + x] + data[below + x] + sides - 4 * data[at];
    }
  }
  return result;
}

function colour({ channels, data }) {
  if (channels === 1) return 0;
  let sum = 0;
  for (let i = 0; i < data.length; i += 3) {
    sum += Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]);
  }
  return sum / (data.length / 3);
}
