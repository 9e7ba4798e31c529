// The .npz members of a bundle: plain arrays, stored without compression, read without trust.

const LARGEST = 64 << 20;
const TYPES = { "|i1": Int8Array, "|u1": Uint8Array, "<f4": Float32Array, "<f8": Float64Array, "<i8": BigInt64Array };

/** The file is none that edge/bundle/arrays.py writes. */
export class NpzError extends Error {}

/** The arrays of an .npz, by name: {shape, values}; text comes as a string. Throws NpzError. */
export function readNpz(bytes) {
  if (bytes.length > LARGEST) throw new NpzError("larger than 64 MiB");
  try {
    return Object.fromEntries(members(bytes).map(([name, data]) => [name.replace(/\.npy$/, ""), readNpy(data)]));
  } catch (error) {
    if (error instanceof RangeError || error instanceof SyntaxError) throw new NpzError("not a readable .npz file");
    throw error;
  }
}

/* By the central directory, which numpy writes with plain sizes; at the end there is no comment. */
function members(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = bytes.length - 22;
  if (view.getUint32(end, true) !== 0x06054b50) throw new NpzError("not a readable .npz file");
  const found = [];
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    if (view.getUint32(at, true) !== 0x02014b50 || view.getUint16(at + 10, true) !== 0) {
      throw new NpzError("compressed or damaged arrays");
    }
    const size = view.getUint32(at + 24, true);
    const [nameSize, extraSize, commentSize] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
    const local = view.getUint32(at + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    if (start + size > bytes.length) throw new NpzError("cut off");
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameSize));
    found.push([name, bytes.subarray(start, start + size)]);
    at += 46 + nameSize + extraSize + commentSize;
  }
  return found;
}

/* Version 1.0 of numpy's format: magic, size of the header, a Python dictionary, the values. */
function readNpy(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = 10 + view.getUint16(8, true);
  const header = new TextDecoder("latin1").decode(bytes.subarray(10, start));
  const found = /'descr': '([^']+)', 'fortran_order': (True|False), 'shape': \(([\d, ]*)\)/.exec(header);
  if (view.getUint32(0) !== 0x934e554d || bytes[6] !== 1 || !found) throw new NpzError("an array of an unknown form");
  const shape = found[3].split(",").filter((side) => side.trim()).map(Number);
  const count = shape.reduce((a, b) => a * b, 1);
  const data = bytes.slice(start); // aligned
  const text = /^<U(\d+)$/.exec(found[1]);
  if (text) return { shape, values: new TextDecoder("utf-16le").decode(data).replaceAll("\0", "") };
  const Type = TYPES[found[1]];
  if (!Type || data.length !== count * Type.BYTES_PER_ELEMENT) throw new NpzError("an array of an unknown form");
  const values = new Type(data.buffer);
  return { shape, values: found[2] === "True" ? byRows(values, shape) : values };
}

/* From an order in which the first index runs fastest to one in which the last does. */
function byRows(values, [rows, columns = 1, ...more]) {
  if (more.length) throw new NpzError("an array of an unknown form");
  return values.map((_, i) => values[Math.floor(i / columns) + (i % columns) * rows]);
}
