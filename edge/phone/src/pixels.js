// From a canvas to an image as the Steps take it.

/** RGB of a canvas's ImageData. */
export function withoutAlpha({ width, height, data }) {
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0, j = 0; j < rgb.length; i += 4) {
    rgb[j++] = data[i];
    rgb[j++] = data[i + 1];
    rgb[j++] = data[i + 2];
  }
  return { height, width, channels: 3, data: rgb };
}
