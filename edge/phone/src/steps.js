// Preprocessing: what each Step of edge/bundle/steps.py computes, exact to the last bit.
//
// An image is {height, width, channels, data}: data is a Uint8Array, row by row, channels 1 (gray) or 3 (RGB).
// Sums stay below 2^53, so doubles hold each exactly; no quotient lies close enough below a whole number to
// be rounded up to it.

/** Nothing is left of an image, or a Step is not known. */
export class StepError extends Error {}

const STEPS = { grayscale, rgb, invert, crop, pad, resize, denoise, normalize };

/** Apply the manifest's Steps in order; the input is not changed. Throws StepError. */
export function applySteps(image, steps) {
  return steps.reduce((current, step) => {
    if (!Object.hasOwn(STEPS, step.op)) throw new StepError(`unknown step '${step.op}'`);
    return STEPS[step.op](current, step);
  }, image);
}

function blank(height, width, channels) {
  if (height < 1 || width < 1) throw new StepError("a step leaves nothing of the image");
  return { height, width, channels, data: new Uint8Array(height * width * channels) };
}

export function grayscale(image) {
  if (image.channels === 1) return image;
  const gray = blank(image.height, image.width, 1);
  const { data } = image;
  for (let i = 0, j = 0; i < gray.data.length; i++, j += 3) {
    gray.data[i] = (9798 * data[j] + 19235 * data[j + 1] + 3735 * data[j + 2] + 16384) >> 15;
  }
  return gray;
}

function rgb(image) {
  if (image.channels === 3) return image;
  const colour = blank(image.height, image.width, 3);
  for (let i = 0; i < image.data.length; i++) colour.data.fill(image.data[i], 3 * i, 3 * i + 3);
  return colour;
}

function mapped(image, table) {
  return { ...image, data: image.data.map((p) => table[p]) };
}

function invert(image) {
  return { ...image, data: image.data.map((p) => 255 - p) };
}

function crop(image, { top = 0, bottom = 0, left = 0, right = 0 }) {
  const margin = (share, side) => Math.floor((share * side) / 1000);
  const above = margin(top, image.height);
  const before = margin(left, image.width);
  const result = blank(
    image.height - above - margin(bottom, image.height),
    image.width - before - margin(right, image.width),
    image.channels,
  );
  const size = result.width * image.channels;
  for (let y = 0; y < result.height; y++) {
    const start = ((y + above) * image.width + before) * image.channels;
    result.data.set(image.data.subarray(start, start + size), y * size);
  }
  return result;
}

function pad(image, { value = 0 }) {
  const side = Math.max(image.height, image.width);
  const result = blank(side, side, image.channels);
  result.data.fill(value);
  const above = (side - image.height) >> 1;
  const before = (side - image.width) >> 1;
  const size = image.width * image.channels;
  for (let y = 0; y < image.height; y++) {
    const row = image.data.subarray(y * size, (y + 1) * size);
    result.data.set(row, ((y + above) * side + before) * image.channels);
  }
  return result;
}

function normalize(image, { low = 5, high = 995 }) {
  const counts = new Array(256).fill(0);
  for (const p of image.data) counts[p]++;
  const n = image.data.length;
  let [lo, hi, sum] = [-1, -1, 0];
  for (let v = 0; v < 256; v++) {
    sum += counts[v];
    if (lo < 0 && 1000 * sum > low * n) lo = v;
    if (hi < 0 && 1000 * sum >= high * n) hi = v;
  }
  if (hi <= lo) return image;
  const span = hi - lo;
  const stretch = (p) => Math.floor((510 * (Math.min(Math.max(p, lo), hi) - lo) + span) / (2 * span));
  return mapped(image, Uint8Array.from({ length: 256 }, (_, p) => stretch(p)));
}

/* Weights of one axis: output j is the sum of weights[k] * input[first[j] + k - start[j]], for k from
   start[j] to start[j + 1]. */
function weights(source, target, method) {
  const first = [];
  const start = [0];
  const values = [];
  for (let j = 0; j < target; j++) {
    if (method === "area") {
      first.push(Math.floor((j * source) / target));
      for (let i = first[j]; i * target < (j + 1) * source; i++) {
        values.push(Math.min((j + 1) * source, (i + 1) * target) - Math.max(j * source, i * target));
      }
    } else {
      const n = Math.min(Math.max((2 * j + 1) * source - target, 0), 2 * target * (source - 1));
      const rest = n % (2 * target);
      first.push(Math.floor(n / (2 * target)));
      values.push(2 * target - rest);
      if (rest) values.push(rest);
    }
    start.push(values.length);
  }
  return { first, start, values, total: method === "area" ? source : 2 * target };
}

function resize(image, { height, width, method = "area" }) {
  if (image.height === height && image.width === width) return image;
  const result = blank(height, width, image.channels);
  const down = weights(image.height, height, method);
  const across = weights(image.width, width, method);
  const total = down.total * across.total;
  const size = width * image.channels;
  let known = -1; // the input row whose horizontal sums are in `row`
  const row = new Float64Array(size);
  const sums = new Float64Array(size);
  const kept = new Map(); // linear enlarging asks for the same two rows again and again
  const rowSums = (y) => {
    if (y === known) return row;
    if (kept.has(y)) return kept.get(y);
    horizontal(image, y, across, row);
    known = y;
    if (method === "linear") {
      kept.set(y, row.slice());
      if (kept.size > 2) kept.delete(kept.keys().next().value);
    }
    return row;
  };
  for (let j = 0; j < height; j++) {
    sums.fill(0);
    for (let k = down.start[j]; k < down.start[j + 1]; k++) {
      const part = rowSums(down.first[j] + k - down.start[j]);
      const weight = down.values[k];
      for (let x = 0; x < size; x++) sums[x] += weight * part[x];
    }
    for (let x = 0; x < size; x++) {
      result.data[j * size + x] = Math.floor((2 * sums[x] + total) / (2 * total));
    }
  }
  return result;
}

function horizontal(image, y, across, row) {
  const { channels, data, width } = image;
  const start = y * width * channels;
  for (let j = 0, out = 0; j < across.first.length; j++) {
    for (let c = 0; c < channels; c++, out++) {
      let at = start + across.first[j] * channels + c;
      let sum = 0;
      for (let k = across.start[j]; k < across.start[j + 1]; k++, at += channels) {
        sum += across.values[k] * data[at];
      }
      row[out] = sum;
    }
  }
}

/* A running histogram along each row (Huang et al. 1979). */
function denoise(image, { kernel = 3 }) {
  const { height, width, channels, data } = image;
  const result = blank(height, width, channels);
  const reach = kernel >> 1;
  const middle = (kernel * kernel) >> 1;
  const inside = (value, side) => Math.min(Math.max(value, 0), side - 1);
  const counts = new Int32Array(256);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < height; y++) {
      counts.fill(0);
      const rows = Array.from({ length: kernel }, (_, k) => inside(y + k - reach, height) * width);
      let [median, below] = [0, 0]; // below: how many are less than the median
      const count = (x, by) => {
        for (const start of rows) {
          const value = data[(start + inside(x, width)) * channels + c];
          counts[value] += by;
          if (value < median) below += by;
        }
      };
      for (let x = -reach; x < reach; x++) count(x, 1);
      for (let x = 0; x < width; x++) {
        count(x + reach, 1);
        if (x) count(x - reach - 1, -1);
        while (below > middle) below -= counts[--median];
        while (below + counts[median] <= middle) below += counts[median++];
        result.data[(y * width + x) * channels + c] = median;
      }
    }
  }
  return result;
}
