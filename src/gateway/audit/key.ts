import { createHmac, type Hmac, randomBytes } from "node:crypto";
import { InputError } from "../../errors.js";

/** Shorter keys could be guessed. Bytes. */
const SHORTEST = 16;

/** What texts are hashed with, by HMAC-SHA-256: who has the key can tell whether a text was judged, nobody else can. */
export class AuditKey {
  readonly #secret: Buffer;
  /** Tells keys apart; of one that nobody gave, and that ends with the process, it begins with "random-". */
  readonly id: string;

  /**
   * @param secret at least 16 bytes; as a text in UTF-8. Null: a random one
   * @throws {InputError} AUDIT_KEY_INVALID
   */
  constructor(secret: string | Uint8Array | null) {
    this.#secret = secret === null ? randomBytes(32) : Buffer.from(secret as string);
    if (this.#secret.length < SHORTEST) {
      const message = `The audit's key has fewer than ${SHORTEST} bytes. Make one with: openssl rand -hex 32`;
      throw new InputError("AUDIT_KEY_INVALID", message);
    }
    const id = this.hash("qwen3guard audit key").slice(0, 8);
    this.id = secret === null ? `random-${id}` : id;
  }

  /** Of a text in UTF-8: 64 hexadecimal digits. */
  hash(text: string): string {
    return this.begin().update(text).digest("hex");
  }

  /** Of a text that comes in pieces. */
  begin(): Hmac {
    return createHmac("sha256", this.#secret);
  }
}
