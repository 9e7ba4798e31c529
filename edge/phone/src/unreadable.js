// What cannot be made an image, and the size up to which the phone tries.

const MAX_FRAME_SAMPLES = 2 ** 26; // as on a cart: edge/imaging/limits.py
const MAX_SAMPLES = 2 ** 31;

/** No image can be had of a file; `reason` is a code of edge/bundle/reasons.py. */
export class UnreadableError extends Error {
  constructor(message, reason = "unreadable") {
    super(message);
    this.reason = reason;
  }
}

/** Refuse, from the header, what is empty or too large. Throws UnreadableError. */
export function checkSize(rows, columns, samples, frames = 1) {
  const whole = [rows, columns, samples, frames].every((n) => Number.isInteger(n) && n >= 1);
  if (!whole) throw new UnreadableError("the header describes an image without pixels");
  const frame = rows * columns * samples;
  if (frame > MAX_FRAME_SAMPLES || frame * frames > MAX_SAMPLES) {
    throw new UnreadableError(`${rows} x ${columns} pixels, ${frames} frames`, "too_large");
  }
}
