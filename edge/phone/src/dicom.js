// DICOM files, stills and cine: checked from the header before anything is decoded; edge/imaging/dicom.py.
//
// Of the header nothing is read but what decoding and display need, the UIDs, and Modality, Body Part Examined,
// View Position and Patient's Age.

import { parseDicom, readPart10Header } from "dicom-parser";
import { displayTable } from "./display.js";
import { fromBitmap, jpegShape } from "./images.js";
import { checkSize, UnreadableError } from "./unreadable.js";

const IMPLICIT = "1.2.840.10008.1.2";
const EXPLICIT = "1.2.840.10008.1.2.1";
const JPEG = "1.2.840.10008.1.2.4.50";
const RLE = "1.2.840.10008.1.2.5";
const PHOTOMETRIC = {
  [IMPLICIT]: ["MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL"],
  [EXPLICIT]: ["MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL"],
  [JPEG]: ["MONOCHROME1", "MONOCHROME2", "YBR_FULL", "YBR_FULL_422"],
  [RLE]: ["MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL"],
};
const PIXEL_DATA = "x7fe00010";
const ITEM = 0xe000fffe; // group and element, as four bytes of little endian read
const DELIMITER = 0xe0ddfffe;
const UNDEFINED = 0xffffffff;
const MOST_FRAMES = 60;
const LEAST_SIDE = 16; // pixels of an ultrasound region that is meant
// What changes the display in ways that are not computed here.
const NOT_SHOWN = { x00283000: "a Modality LUT", x52009229: "functional groups", x52009230: "functional groups" };

export function isDicom(bytes) {
  return bytes.length > 132 && String.fromCharCode(...bytes.subarray(128, 132)) === "DICM";
}

/**
 * {identity, study, header, frames}: `identity` and `study` are UIDs or null; `frames` yields [image, index, reason],
 * of a long cine MOST_FRAMES at most, evenly spaced. With a reason there can be no result.
 */
export function readDicom(bytes) {
  try {
    return read(bytes);
  } catch (error) {
    if (error instanceof UnreadableError) throw error;
    throw new UnreadableError("the DICOM file is damaged or not to the standard");
  }
}

function read(bytes) {
  const syntax = readPart10Header(bytes).string("x00020010");
  if (!(syntax in PHOTOMETRIC)) throw new UnreadableError("a transfer syntax that phones do not read");
  const dataset = parseDicom(bytes, { untilTag: PIXEL_DATA });
  const a = attributes(dataset, syntax);
  const frames = syntax === IMPLICIT || syntax === EXPLICIT ? native(bytes, a) : encapsulated(bytes, a);
  return {
    identity: uid(dataset, "x00080018"),
    study: uid(dataset, "x0020000d"),
    header: {
      modality: term(dataset, "x00080060"),
      body_part: term(dataset, "x00180015"),
      view: term(dataset, "x00185101"),
      age_years: ageYears(dataset.string("x00101010")),
    },
    frames: judged(shown(a, frames, syntax), dataset, a),
  };
}

function attributes(dataset, syntax) {
  const number = (tag) => dataset.uint16(tag);
  const decimal = (tag, otherwise) => (dataset.string(tag) ? dataset.floatString(tag, 0) : otherwise);
  const element = dataset.elements[PIXEL_DATA];
  if (!element) throw new UnreadableError("the DICOM file has no pixel data");
  for (const [tag, what] of Object.entries(NOT_SHOWN)) {
    if (dataset.elements[tag]) throw new UnreadableError(`${what}: not read on phones`);
  }
  const a = {
    rows: number("x00280010"),
    columns: number("x00280011"),
    samples: number("x00280002"),
    planar: number("x00280006") === 1,
    bitsAllocated: number("x00280100"),
    bitsStored: number("x00280101"),
    signed: number("x00280103") === 1,
    count: dataset.string("x00280008") ? dataset.intString("x00280008") : 1,
    photometric: dataset.string("x00280004"),
    slope: decimal("x00281053", 1),
    intercept: decimal("x00281052", 0),
    center: decimal("x00281050", null),
    width: decimal("x00281051", null),
    inverse: (dataset.string("x20500020") ?? "").trim() === "INVERSE",
    voiFunction: dataset.string("x00281056") || "LINEAR",
    paddingValues: ["x00280120", "x00280121"].map(number).filter((value) => value !== undefined),
    lut: voiLut(dataset),
    data: element.dataOffset,
    length: element.length,
  };
  checkSize(a.rows, a.columns, a.samples, a.count);
  const gray = a.photometric?.startsWith("MONOCHROME");
  if (!PHOTOMETRIC[syntax].includes(a.photometric) || a.samples !== (gray ? 1 : 3)) {
    throw new UnreadableError("a photometric interpretation that is not read here");
  }
  const deep = a.bitsAllocated === 16 && gray && syntax !== JPEG;
  if (!(a.bitsAllocated === 8 || deep) || !(a.bitsStored >= 1 && a.bitsStored <= a.bitsAllocated)) {
    throw new UnreadableError(`${a.bitsAllocated} bits a sample (${a.bitsStored} stored)`);
  }
  if (!gray && (a.bitsStored !== 8 || a.signed)) throw new UnreadableError("colour of other than 8 bits");
  return a;
}

function voiLut(dataset) {
  const item = dataset.elements.x00283010?.items?.[0]?.dataSet;
  if (!item?.elements.x00283002 || !item.elements.x00283006) return null;
  const [entries, first, depth] = [0, 1, 2].map((i) => item.uint16("x00283002", i));
  const count = entries || 65536;
  const { length } = item.elements.x00283006;
  if (length !== 2 * count || depth < 8 || depth > 16 || dataset.uint16("x00280103") === 1) throw new UnreadableError("a VOI LUT of a rare kind");
  return { first, depth, values: Float64Array.from({ length: count }, (_, i) => item.uint16("x00283006", i)) };
}

/* The patterns of bits of each frame, one value a sample. */
function native(bytes, a) {
  const samples = a.rows * a.columns * a.samples;
  const size = (samples * a.bitsAllocated) / 8;
  if (a.length === UNDEFINED || bytes.length - a.data < size * a.count) {
    throw new UnreadableError("the DICOM file is cut off in its pixel data");
  }
  return Array.from({ length: a.count }, (_, i) => () => {
    const data = bytes.slice(a.data + i * size, a.data + (i + 1) * size);
    return a.bitsAllocated === 8 ? data : new Uint16Array(data.buffer);
  });
}

function encapsulated(bytes, a) {
  const fragments = readFragments(bytes, a.data);
  // One fragment a frame, as all but very large frames have.
  if (fragments.length !== a.count) throw new UnreadableError("frames in several fragments");
  return fragments.map((fragment) => () => fragment);
}

function readFragments(bytes, start) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = [];
  for (let at = start; ; ) {
    const [tag, length] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
    if (tag === DELIMITER) return found.slice(1); // without the offset table
    if (tag !== ITEM || length === UNDEFINED || at + 8 + length > bytes.length) {
      throw new UnreadableError("the DICOM file is damaged or cut off in its pixel data");
    }
    found.push(bytes.subarray(at + 8, at + 8 + length));
    at += 8 + length;
  }
}

/* RLE (PS3.5 annex G): a header of 16 words, then PackBits, a segment for each byte of a sample. */
function unpackRle(fragment, a) {
  const view = new DataView(fragment.buffer, fragment.byteOffset, fragment.byteLength);
  const pixels = a.rows * a.columns;
  const planes = (a.samples * a.bitsAllocated) / 8;
  if (view.getUint32(0, true) !== planes) throw new UnreadableError("RLE segments that do not fit");
  const result = new Uint8Array(pixels * planes);
  for (let plane = 0; plane < planes; plane++) {
    const end = plane + 1 < planes ? view.getUint32(8 + 4 * plane, true) : fragment.length;
    let at = view.getUint32(4 + 4 * plane, true);
    // A sample's high byte comes first; in the result the low one does.
    let out = a.bitsAllocated === 16 ? 1 - plane : plane;
    const put = (value) => {
      if (out < result.length) result[out] = value;
      out += planes;
    };
    while (at < end && out < result.length) {
      const count = view.getInt8(at++);
      if (count >= 0) for (let i = 0; i <= count; i++) put(view.getUint8(at++));
      else if (count !== -128) for (let i = 0, value = view.getUint8(at++); i <= -count; i++) put(value);
    }
    if (out < result.length) throw new UnreadableError("the DICOM file is cut off in its pixel data");
  }
  return a.bitsAllocated === 16 ? new Uint16Array(result.buffer) : result;
}

async function* shown(a, frames, syntax) {
  const patterns = async (frame) => {
    const data = frame();
    if (syntax === RLE) return unpackRle(data, a);
    if (syntax === JPEG) return fromJpeg(data, a);
    return a.planar && a.samples === 3 ? interleaved(data) : data;
  };
  const stride = Math.ceil(frames.length / MOST_FRAMES);
  const chosen = frames.map((frame, index) => [frame, index]).filter(([, index]) => index % stride === 0);
  const one = (channels, data) => ({ height: a.rows, width: a.columns, channels, data });
  if (a.samples === 3) {
    const convert = a.photometric === "YBR_FULL" && syntax !== JPEG ? fromYbr : (data) => data;
    for (const [frame, index] of chosen) yield [one(3, convert(await patterns(frame))), index];
    return;
  }
  const windowed = a.lut || (a.center !== null && a.width !== null);
  const present = new Uint8Array(2 ** a.bitsAllocated);
  if (!windowed) for (const frame of frames) for (const pattern of await patterns(frame)) present[pattern] = 1;
  const table = displayTable(a, present);
  for (const [frame, index] of chosen) {
    yield [one(1, Uint8Array.from(await patterns(frame), (p) => table[p])), index];
  }
}

/* What a cart says of frames as they are (edge/imaging/dicom.py): an ultrasound machine's screen is cut to its regions
   of 2D tissue (PS3.3 C.8.5.5); a screen of which nothing says where the scan is, is not looked for it here. */
async function* judged(images, dataset, { rows, columns }) {
  const ultrasound = term(dataset, "x00080060") === "US";
  const boxes = ultrasound ? regions(dataset, rows, columns) : [];
  const burnedIn = ultrasound && term(dataset, "x00280301") === "YES";
  const raw = term(dataset, "x00080068") === "FOR PROCESSING";
  let last = null;
  for await (const [image, index] of images) {
    const frozen = last !== null && last.every((value, i) => value === image.data[i]);
    last = image.data;
    const reason = raw ? "for_processing" : frozen ? "frozen" : burnedIn && !boxes.length ? "user_interface" : null;
    yield [boxes.length ? cut(image, boxes) : { ...image, data: image.data.slice() }, index, reason];
  }
}

/* [left, top, right, bottom], the ends included; none where one reaches beyond the picture. */
function regions(dataset, rows, columns) {
  const found = [];
  for (const { dataSet: region } of dataset.elements.x00186011?.items ?? []) {
    const box = ["x00186018", "x0018601a", "x0018601c", "x0018601e"].map((tag) => region.uint32(tag));
    const [left, top, right, bottom] = box;
    if (!(left >= 0 && left < right && right < columns && top >= 0 && top < bottom && bottom < rows)) return [];
    const tissue = region.uint16("x00186012") === 1 && region.uint16("x00186014") === 1;
    if (tissue && Math.min(right - left, bottom - top) >= LEAST_SIDE) found.push(box);
  }
  return found;
}

function cut({ width, channels, data }, boxes) {
  const end = (of, i) => of(...boxes.map((box) => box[i]));
  const [left, top, right, bottom] = [end(Math.min, 0), end(Math.min, 1), end(Math.max, 2), end(Math.max, 3)];
  const size = (right + 1 - left) * channels;
  const kept = new Uint8Array((bottom + 1 - top) * size);
  for (let y = top; y <= bottom; y++) {
    const start = (y * width + left) * channels;
    kept.set(data.subarray(start, start + size), (y - top) * size);
  }
  return { height: bottom + 1 - top, width: right + 1 - left, channels, data: kept };
}

async function fromJpeg(data, a) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (String(jpegShape(data, view)) !== String([a.rows, a.columns])) throw new UnreadableError("a JPEG of another size");
  const { data: rgb } = await fromBitmap(new Blob([data], { type: "image/jpeg" }));
  return a.samples === 3 ? rgb : rgb.filter((_, i) => i % 3 === 0);
}

function interleaved(planes) {
  const size = planes.length / 3;
  return planes.map((_, i) => planes[(i % 3) * size + Math.floor(i / 3)]);
}

/* PS3.3 C.7.6.3.1.2. */
function fromYbr(data) {
  const rgb = new Uint8ClampedArray(data.length); // rounds to the nearest
  for (let i = 0; i < data.length; i += 3) {
    const [y, b, r] = [data[i], data[i + 1] - 128, data[i + 2] - 128];
    rgb[i] = y + 1.402 * r;
    rgb[i + 1] = y - (0.114 * 1.772 * b + 0.299 * 1.402 * r) / 0.587;
    rgb[i + 2] = y + 1.772 * b;
  }
  return new Uint8Array(rgb.buffer);
}

/** An Age String (PS3.5 6.2: 018M, units D, W, M or Y) in years, or null. */
export function ageYears(text) {
  const found = /^(\d{3})([DWMY])$/.exec((text ?? "").trim());
  return found ? Number(found[1]) / { D: 365.25, W: 365.25 / 7, M: 12, Y: 1 }[found[2]] : null;
}

function uid(dataset, tag) {
  const text = dataset.string(tag) ?? "";
  return /^[\d.]{1,64}$/.test(text) ? text : null;
}

function term(dataset, tag) {
  const text = (dataset.string(tag) ?? "").trim().toUpperCase();
  return /^[A-Z0-9 _]{1,16}$/.test(text) ? text : null;
}
