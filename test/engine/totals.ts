import type { Engine } from "../../src/engine/engine.js";

/** Tokens of prompts so far: those that were in the cache already, and those that ran. */
export function totalsOf({ load }: Engine): { reused: number; prefilled: number } {
  return { reused: load.reusedTokens, prefilled: load.prefilledTokens };
}
