import type { Hmac } from "node:crypto";
import type { AuditEntry } from "./entry.js";
import type { AuditKey } from "./key.js";

/** Longest text that is told. UTF-16 units. */
export const LONGEST_TOLD = 65_536;

/** An answer that comes in pieces and may go on for ever: its hash so far, and its beginning. */
export class HeardText {
  readonly #hash: Hmac;
  #beginning = "";
  /** The first half of a pair, whose other half comes next. */
  #half = "";

  constructor(key: AuditKey) {
    this.#hash = key.begin();
  }

  add(piece: string): void {
    const text = this.#half + piece;
    const last = text.charCodeAt(text.length - 1);
    const whole = last >= 0xd800 && last < 0xdc00 ? text.length - 1 : text.length;
    this.#half = text.slice(whole);
    this.#hash.update(text.slice(0, whole));
    if (this.#beginning.length < LONGEST_TOLD) {
      this.#beginning += text.slice(0, Math.min(whole, LONGEST_TOLD - this.#beginning.length));
    }
  }

  /** Ends it. @param text whether the text is told as well */
  end(text: boolean): Partial<AuditEntry> {
    if (this.#beginning === "") return {};
    const hash = this.#hash.digest("hex");
    return text ? { hash, text: this.#beginning } : { hash };
  }
}
