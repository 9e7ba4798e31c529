// From the values that a DICOM file stores to the 8 bits a viewer shows: edge/imaging/dicom_display.py.

import { to8Bit } from "./images.js";
import { UnreadableError } from "./unreadable.js";

const FAR = 1e30;

/** The value of each pattern of bits: two's complement of all bits allocated where they are signed. */
function storedValues({ bitsAllocated, signed }) {
  const half = 2 ** (bitsAllocated - 1);
  return Float64Array.from({ length: 2 * half }, (_, p) => (signed && p >= half ? p - 2 * half : p));
}

/**
 * How the gray values of one file are shown: a table from each pattern of bits to 8 bits.
 *
 * Without window or LUT the least and the greatest value of the patterns that are `present` become 0 and 255.
 * Padding has no part in that and is black. Throws UnreadableError.
 */
export function displayTable(attributes, present) {
  const stored = storedValues(attributes);
  const isPadding = padding(attributes, stored);
  let values = stored.map((value) => value * attributes.slope + attributes.intercept);
  let [low, high] = [0, 0];
  const transform = voi(attributes);
  if (transform) {
    // A LUT's output ranges over all that its depth allows, whichever values it holds.
    [low, high] = attributes.lut ? [0, 2 ** attributes.lut.depth - 1] : [transform(-FAR), transform(FAR)];
    values = values.map(transform);
  } else {
    [low, high] = range(values, isPadding, present);
  }
  if (![...values, low, high].every(Number.isFinite)) throw new UnreadableError("values without bounds");
  const inverted = attributes.photometric === "MONOCHROME1" || attributes.inverse;
  return Uint8Array.from(values, (value, p) => {
    const shown = to8Bit(value, low, high);
    return isPadding(p) ? 0 : inverted ? 255 - shown : shown;
  });
}

function padding({ paddingValues }, stored) {
  if (!paddingValues.length) return () => false;
  // US or SS, as Pixel Representation says; some writers take the other.
  const ends = paddingValues.map((value) => stored[((value % stored.length) + stored.length) % stored.length]);
  return (p) => stored[p] >= Math.min(...ends) && stored[p] <= Math.max(...ends);
}

function range(values, isPadding, present) {
  const shown = values.filter((_, p) => present[p] && !isPadding(p));
  return shown.length ? shown.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]) : [0, 0];
}

/* The VOI LUT, else the first window (PS3.3 C.11.2), else null. */
function voi({ lut, center, width, voiFunction, bitsStored, signed, slope, intercept }) {
  if (lut) {
    const [first, last] = [lut.first, lut.first + lut.values.length - 1];
    return (x) => lut.values[Math.min(Math.max(Math.trunc(x), first), last) - first];
  }
  if (center === null || width === null) return null;
  const stored = signed ? [-(2 ** (bitsStored - 1)), 2 ** (bitsStored - 1) - 1] : [0, 2 ** bitsStored - 1];
  const [least, most] = stored.map((value) => value * slope + intercept);
  if (voiFunction === "SIGMOID" && width > 0) {
    return (x) => (most - least) / (1 + Math.exp((-4 * (x - center)) / width)) + least;
  }
  const exact = voiFunction === "LINEAR_EXACT";
  const [c, w] = exact ? [center, width] : [center - 0.5, width - 1];
  if (!["LINEAR", "LINEAR_EXACT"].includes(voiFunction) || width < (exact ? Number.MIN_VALUE : 1)) {
    throw new UnreadableError("a window that the standard does not allow");
  }
  return (x) => {
    if (x <= c - w / 2) return least;
    if (x > c + w / 2) return most;
    return ((x - c) / w + 0.5) * (most - least) + least;
  };
}
