import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { Logits } from "../engine/logits.js";
import type { PromptReader } from "./earlier-windows.js";
import type { PromptWindow } from "./prompt-windows.js";

/** Windows that are remembered: tools of as many clients, and turns of conversations under way. */
const MOST_WINDOWS = 4096;

/**
 * What the model said in windows that no answer went on behind, such as that of a list of tools, which comes with each
 * request. A window is read by itself, so that the same ids have the same verdicts whoever reads them.
 */
export class WindowMemory {
  /** By key and ids. */
  readonly #windows = new LRUCache<string, readonly Logits[]>({ max: MOST_WINDOWS });
  #reusedTokens = 0;

  /** Tokens of windows so far that were not run again. */
  get reusedTokens(): number {
    return this.#reusedTokens;
  }

  /** What is remembered under a key: nobody learns from a verdict's time what another has said. */
  under(key: string): WindowRecall {
    return {
      tell: (window, read) => this.#tell(key, window, read),
      keep: (window, logits) => void this.#windows.set(nameOf(key, window), logits),
    };
  }

  #tell(key: string, window: PromptWindow, read: PromptReader): boolean {
    const known = this.#windows.get(nameOf(key, window));
    if (!known) return false;
    this.#reusedTokens += window.ids.length;
    for (const [i, logits] of known.entries()) read(logits, 0, window.reads[i]);
    return true;
  }
}

/** What is remembered under one key. */
export interface WindowRecall {
  /** Tells a reader of all that is to be read in a window, where that is known. */
  tell(window: PromptWindow, read: PromptReader): boolean;
  /** @param logits of its reads, in order, each with a row alone */
  keep(window: PromptWindow, logits: readonly Logits[]): void;
}

function nameOf(key: string, { ids, reads }: PromptWindow): string {
  const hash = createHash("sha256").update(JSON.stringify([key, reads.map(({ at }) => at)]));
  return hash.update(Int32Array.from(ids)).digest("base64");
}
