// Pictures that are no DICOM files, to the pixels a cart makes of them: edge/imaging/images.py.

import { convertIndexedToRgb, decode } from "fast-png";
import { withoutAlpha } from "./pixels.js";
import { checkSize, UnreadableError } from "./unreadable.js";

const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const PNG_CHUNKS = ["IHDR", "PLTE", "IDAT", "IEND"]; // all that pixels need
const PNG_SAMPLES = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }; // by colour type
const PNG_DEPTHS = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] }; // PNG 11.2.1

/** Decode a PNG, JPEG, BMP or WebP file: {height, width, channels, data}. Throws UnreadableError. */
export async function decodePicture(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    if (PNG.every((byte, i) => bytes[i] === byte)) return await decodePng(bytes, view);
    const [rows, columns] = shape(bytes, view);
    checkSize(rows, columns, 3);
  } catch (error) {
    if (error instanceof UnreadableError) throw error;
    throw new UnreadableError("the picture is damaged"); // by what it says of itself, it ends before its end
  }
  return fromBitmap(new Blob([bytes]));
}

/** The pixels of what the browser decodes, as RGB. Throws UnreadableError. */
export async function fromBitmap(source) {
  const options = { premultiplyAlpha: "none", colorSpaceConversion: "none", imageOrientation: "from-image" };
  let bitmap;
  try {
    bitmap = await createImageBitmap(source, options);
  } catch {
    throw new UnreadableError("the browser cannot decode the picture");
  }
  const { width, height } = bitmap;
  checkSize(height, width, 3);
  const canvas = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  canvas.drawImage(bitmap, 0, 0);
  bitmap.close();
  return withoutAlpha(canvas.getImageData(0, 0, width, height));
}

/** `low` becomes 0, `high` 255; halves round up, and all is 0 where they are equal: edge/imaging/display.py. */
export function to8Bit(value, low, high) {
  if (high === low) return 0;
  return Math.min(Math.max(Math.floor((255 * (value - low)) / (high - low) + 0.5), 0), 255);
}

async function decodePng(bytes, view) {
  const [width, height, depth, colour] = [16, 20].map((at) => view.getUint32(at)).concat(bytes[24], bytes[25]);
  const samples = PNG_SAMPLES[colour];
  const known = PNG_DEPTHS[colour]?.includes(depth) && bytes[26] === 0 && bytes[27] === 0 && bytes[28] < 2;
  if (!known) throw new UnreadableError("a PNG file of a kind that there is none of");
  checkSize(height, width, samples === 1 || samples === 2 ? 1 : 3);
  const interlaced = bytes[28] !== 0;
  if (depth < 8 && interlaced) throw new UnreadableError("an interlaced PNG file of few colours");
  const { plain, packed } = pngChunks(bytes, view);
  const row = 1 + Math.ceil((width * samples * depth) / 8);
  await checkInflated(packed, height * row + (interlaced ? 8 * (height + width) : 0));
  let image;
  try {
    image = decode(plain, { checkCrc: true });
    if (depth < 8 && colour === 0) {
      const data = convertIndexedToRgb({ ...image, palette: grays(depth) }).filter((_, i) => i % 3 === 0);
      image = { ...image, depth: 8, data };
    } else if (image.palette) image = { ...image, channels: 3, depth: 8, data: convertIndexedToRgb(image) };
  } catch {
    throw new UnreadableError("the PNG file is damaged");
  }
  return plainSamples(image);
}

/* The chunks that pixels need, each whole; no text, profile or animation gets to the decoder. */
function pngChunks(bytes, view) {
  const kept = [bytes.subarray(0, 8)];
  const packed = [];
  for (let at = 8, kind = ""; kind !== "IEND"; ) {
    const end = at + 12 + view.getUint32(at);
    if (end > bytes.length) throw new UnreadableError("the PNG file is cut off");
    kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (PNG_CHUNKS.includes(kind)) kept.push(bytes.subarray(at, end));
    if (kind === "IDAT") packed.push(bytes.subarray(at + 8, end - 4));
    at = end;
  }
  return { plain: joined(kept), packed };
}

/* Unpacked as a stream first, which costs no memory: a small file may hold a large one. */
async function checkInflated(parts, expected) {
  let left = expected;
  try {
    const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
    const reader = stream.getReader();
    for (let next = await reader.read(); !next.done && left >= 0; next = await reader.read()) left -= next.value.length;
    if (left < 0) await reader.cancel();
  } catch {
    throw new UnreadableError("the PNG file is damaged");
  }
  if (left < 0) throw new UnreadableError("the PNG file holds more than its header says");
}

function plainSamples({ width, height, channels, depth, data }) {
  const kept = channels < 3 ? 1 : 3;
  const result = new Uint8Array(width * height * kept);
  const value = (i) => data[Math.floor(i / kept) * channels + (i % kept)];
  if (depth === 8) {
    for (let i = 0; i < result.length; i++) result[i] = value(i);
  } else {
    let [low, high] = [65535, 0];
    for (let i = 0; i < result.length; i++) [low, high] = [Math.min(low, value(i)), Math.max(high, value(i))];
    for (let i = 0; i < result.length; i++) result[i] = to8Bit(value(i), low, high);
  }
  return { height, width, channels: kept, data: result };
}

function grays(depth) {
  const most = 2 ** depth - 1;
  return Array.from({ length: most + 1 }, (_, i) => [255, 255, 255].map((white) => (white * i) / most));
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/* Rows and columns by the file's header, of the kinds that the browser is asked to decode. */
function shape(bytes, view) {
  const starts = (text, at = 0) => [...text].every((letter, i) => bytes[at + i] === letter.charCodeAt(0));
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return jpegShape(bytes, view);
  if (starts("BM")) return bmpShape(bytes, view);
  if (starts("RIFF") && starts("WEBP", 8)) return webpShape(bytes, view);
  throw new UnreadableError("not an image of a known kind");
}

/* As far as the end marker: what a browser makes of the rest of a JPEG file that is cut off is gray. */
export function jpegShape(bytes, view) {
  let found = null;
  for (let at = 2; at < bytes.length - 1; at++) {
    const marker = bytes[at + 1];
    if (bytes[at] !== 0xff || marker === 0 || marker === 0xff || (marker >= 0xd0 && marker <= 0xd7)) continue;
    if (marker === 0xd9) {
      if (found) return found;
      break;
    }
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      found = [view.getUint16(at + 5), view.getUint16(at + 7)];
    }
    at += 1 + view.getUint16(at + 2);
  }
  throw new UnreadableError("the JPEG file is cut off or damaged");
}

function bmpShape(bytes, view) {
  const compressed = [1, 2].includes(view.getUint32(30, true));
  const [columns, rows, bits] = [view.getInt32(18, true), Math.abs(view.getInt32(22, true)), view.getUint16(28, true)];
  const size = compressed ? 0 : Math.floor((columns * bits + 31) / 32) * 4 * rows;
  if (bytes.length < Math.max(view.getUint32(2, true), view.getUint32(10, true) + size)) {
    throw new UnreadableError("the BMP file is cut off");
  }
  return [rows, columns];
}

function webpShape(bytes, view) {
  if (bytes.length < 8 + view.getUint32(4, true)) throw new UnreadableError("the WebP file is cut off");
  const kind = String.fromCharCode(...bytes.subarray(12, 16));
  if (kind === "VP8 ") return [view.getUint16(28, true) & 0x3fff, view.getUint16(26, true) & 0x3fff];
  if (kind === "VP8L") {
    const sides = view.getUint32(21, true);
    return [((sides >> 14) & 0x3fff) + 1, (sides & 0x3fff) + 1];
  }
  if (kind === "VP8X") {
    const side = (at) => (view.getUint32(at, true) & 0xffffff) + 1;
    return [side(27), side(24)];
  }
  throw new UnreadableError("a WebP file of an unknown kind");
}
