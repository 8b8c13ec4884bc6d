import type { Verdict } from "../moderation/verdict.js";
import { checkOptions, type OptionCheck, wholeFrom } from "../validation/options.js";
import type { VerdictStream } from "./gate-options.js";

/** When what came is judged: not token by token, but once so many wait, or the first of them has waited for so long. */
export interface BatchOptions {
  /** From 1 to 1024. Default 16. */
  tokens?: number;
  /** Milliseconds, from 1. Default 500. */
  ms?: number;
}

const DEFAULT_TOKENS = 16;
const DEFAULT_MS = 500;
const BATCH_OPTIONS = {
  tokens: wholeFrom(1, 1024),
  ms: wholeFrom(1, 2 ** 31 - 1),
} satisfies Record<keyof BatchOptions, OptionCheck>;

/** @throws {InputError} OPTION_INVALID */
export const aBatch: OptionCheck = (value) => {
  checkOptions(value, "batch", BATCH_OPTIONS);
  return value === null ? 'an object such as { "tokens": 16, "ms": 500 }' : null;
};

/** Gives a guard's stream what comes: at once, or in batches. */
export class Batches {
  readonly #stream: VerdictStream;
  readonly #options: BatchOptions | undefined;
  readonly #onDue: () => void;
  readonly #ids: number[] = [];
  #waiting = 0;
  #timer: NodeJS.Timeout | undefined;
  #isLate = false;

  /**
   * @param options none: all is judged at once
   * @param onDue called when what waits has waited for long enough
   */
  constructor(stream: VerdictStream, options: BatchOptions | undefined, onDue: () => void) {
    this.#stream = stream;
    this.#options = options;
    this.#onDue = onDue;
  }

  /** Tokens that wait to be judged. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Whether they are to be judged although nothing more comes. */
  get isDue(): boolean {
    return this.#isLate;
  }

  /**
   * Takes text or ids, and judges all that waits where it is time.
   *
   * @param now it is time, whatever waits
   * @returns the verdicts; none where it waits
   */
  async push(text: string, ids: readonly number[], now: boolean): Promise<Verdict[]> {
    if (!this.#options) return this.#judge(text, ids);
    const { tokens = DEFAULT_TOKENS, ms = DEFAULT_MS } = this.#options;
    if (text !== "") this.#waiting = await this.#stream.stage(text);
    this.#ids.push(...ids);
    this.#waiting += ids.length;
    if (this.#waiting === 0) return [];
    if (now || this.#isLate || this.#waiting >= tokens) return this.#judge("", this.#ids.splice(0));
    this.#timer ??= setTimeout(() => this.#late(), ms);
    return [];
  }

  /** Judges what waits, and settles it as if the text ended here. */
  settle(): Promise<Verdict[]> {
    if (this.#ids.length > 0) return this.#judge("", this.#ids.splice(0));
    this.#rest();
    return this.#stream.flush();
  }

  /** @param text none: what was staged */
  async #judge(text: string, ids: readonly number[]): Promise<Verdict[]> {
    const staged = this.#waiting > 0;
    this.#rest();
    if (ids.length > 0) return this.#stream.push(ids);
    return text !== "" || staged ? this.#stream.pushText(text) : [];
  }

  /** Nothing more is judged. */
  close(): void {
    clearTimeout(this.#timer);
  }

  #late(): void {
    this.#isLate = true;
    this.#onDue();
  }

  #rest(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#isLate = false;
    this.#waiting = 0;
  }
}
