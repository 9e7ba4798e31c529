// Pictures on the screen: what the model saw of a frame, and where it looked.

const SIDE = 1024; // longer side of what is kept
const OPACITY = 0.6; // at the peak; elsewhere in proportion, as on a cart: edge/imaging/overlay.py
const OUTLINES = [
  [255, 180, 84],
  [124, 199, 255],
  [205, 189, 255],
];
const PLASMA = [
  [13, 8, 135],
  [75, 3, 161],
  [125, 3, 168],
  [168, 34, 150],
  [203, 70, 121],
  [229, 107, 93],
  [248, 148, 65],
  [253, 195, 40],
  [240, 249, 33],
];

/** A JPEG of an image, black where the Steps cut it away; `region` null shows all of it. */
export async function toJpeg({ height, width, channels, data }, region) {
  const rgba = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let i = 0, j = 0; j < rgba.length; i += channels, j += 4) {
    rgba[j] = data[i];
    rgba[j + 1] = data[i + (channels === 3 ? 1 : 0)];
    rgba[j + 2] = data[i + (channels === 3 ? 2 : 0)];
  }
  const scale = Math.min(1, SIDE / Math.max(height, width));
  const [w, h] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  const options = { resizeWidth: w, resizeHeight: h, resizeQuality: "medium" };
  const bitmap = await createImageBitmap(new ImageData(rgba, width, height), options);
  const canvas = new OffscreenCanvas(w, h);
  const context = canvas.getContext("2d");
  if (region) {
    context.beginPath();
    context.rect(region.left * w, region.top * h, region.width * w, region.height * h);
    context.clip();
  }
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
}

/** Draw an activation map {height, width, values} over the region of a picture that `canvas` has the size of. */
export function drawHeat(canvas, cam, region) {
  const peak = Math.max(...cam.values);
  if (!(peak > 0)) return;
  const small = new OffscreenCanvas(cam.width, cam.height);
  const image = new ImageData(cam.width, cam.height);
  cam.values.forEach((value, i) => {
    const heat = Math.max(0, value) / peak;
    image.data.set([...colour(heat), 255 * OPACITY * heat], 4 * i);
  });
  small.getContext("2d").putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const [w, h] = [canvas.width, canvas.height];
  context.drawImage(small, region.left * w, region.top * h, region.width * w, region.height * h);
}

/** Draw the edges of each class but the first, the background, of a mask {height, width, values}. */
export function drawOutline(canvas, { height, width, values }, region) {
  const small = new OffscreenCanvas(width, height);
  const image = new ImageData(width, height);
  values.forEach((value, i) => {
    const [x, y] = [i % width, Math.floor(i / width)];
    const sides = [x && values[i - 1], x < width - 1 && values[i + 1], y && values[i - width], y < height - 1 && values[i + width]];
    if (value && sides.some((side) => side !== value)) {
      image.data.set([...OUTLINES[(value - 1) % OUTLINES.length], 255], 4 * i);
    }
  });
  small.getContext("2d").putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  const [w, h] = [canvas.width, canvas.height];
  context.drawImage(small, region.left * w, region.top * h, region.width * w, region.height * h);
}

function colour(heat) {
  const at = Math.min(heat * (PLASMA.length - 1), PLASMA.length - 1.001);
  const low = Math.floor(at);
  return PLASMA[low].map((value, i) => value + (at - low) * (PLASMA[low + 1][i] - value));
}
