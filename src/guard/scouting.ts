import { InputError } from "../errors.js";
import type { ScoutOptions } from "../gate/scout.js";
import type { Guard, StreamInput } from "../guard.js";
import { IncrementalDecoder } from "../tokenizer/incremental.js";
import type { OptionCheck } from "../validation/options.js";

/** true: the embedded guard, loaded when it is first wanted. Or another small guard, which its owner closes. */
export type ScoutChoice = boolean | Guard;

export const aScout: OptionCheck = (value) =>
  typeof value === "boolean" || typeof (value as Partial<Guard> | null)?.stream === "function"
    ? null
    : "true or a guard";

/**
 * A small guard that reads the same conversation ahead of a large one.
 *
 * @throws {InputError} OPTION_INVALID where the conversation is given as ids, or was encoded already
 */
export function scoutFor(
  guard: Guard,
  choice: ScoutChoice | undefined,
  { messages, tools, reasoning, scope, cacheKey, closely }: StreamInput,
): ScoutOptions | null {
  if (!choice) return null;
  if (!messages) {
    throw new InputError("OPTION_INVALID", "A scout reads the conversation by itself: give it as messages.");
  }
  return {
    async open() {
      const scout = choice === true ? await guard.scout() : choice;
      return scout.stream({ messages, tools, reasoning, scope, cacheKey, closely, overflow: "slide" });
    },
    decoder() {
      const decoder = new IncrementalDecoder(guard.tokenizer);
      return (ids) => ids.map((id) => decoder.push(id)).join("");
    },
  };
}
