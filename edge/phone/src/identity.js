// Keyed hashes that stand for images and studies outside the phone: edge/agent/identity.py.

// Digits and capitals without I, L, O and U, which are misread (Crockford's base 32).
const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** A new secret of the device. It can be used, and never read again. */
export function newSecret() {
  return crypto.subtle.generateKey({ name: "HMAC", hash: "SHA-256", length: 256 }, false, ["sign"]);
}

/** Hashes keyed with the device's secret: HMAC-SHA256 (RFC 2104), cut to 32 hex digits. */
export class Identity {
  constructor(secret) {
    this._secret = secret;
  }

  /** The id of a finding: the same for the same bundle and frame identity. */
  finding(bundle, frame) {
    return this._hash("finding", bundle.name, bundle.version, frame);
  }

  /** What stands for a study. */
  study(study) {
    return this._hash("study", study);
  }

  /** A short code for people, such as 7K2M-Q4XP. */
  async caseCode(study) {
    const value = BigInt(`0x${(await this._hash("case", study)).slice(0, 10)}`);
    const code = Array.from({ length: 8 }, (_, i) => ALPHABET[Number((value >> BigInt(35 - 5 * i)) & 31n)]).join("");
    return `${code.slice(0, 4)}-${code.slice(4)}`;
  }

  async _hash(...parts) {
    // Lengths first: no two lists of parts make the same message.
    const encoded = parts.map((part) => new TextEncoder().encode(part));
    const message = new Uint8Array(encoded.reduce((sum, part) => sum + 8 + part.length, 0));
    const view = new DataView(message.buffer);
    let at = 0;
    for (const part of encoded) {
      view.setBigUint64(at, BigInt(part.length));
      message.set(part, at + 8);
      at += 8 + part.length;
    }
    return hex(await crypto.subtle.sign("HMAC", this._secret, message)).slice(0, 32);
  }
}

/** SHA-256 of bytes, in hex digits. */
export async function sha256(bytes) {
  return hex(await crypto.subtle.digest("SHA-256", bytes));
}

function hex(buffer) {
  return Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
