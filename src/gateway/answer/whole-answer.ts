import type { ModerationViolation } from "../../gate/violation.js";
import type { Json } from "../../validation/json.js";
import type { Shape } from "./allow-list.js";
import type { CodecOptions, WholeAnswer } from "./codec.js";
import { WholeReader } from "./readers.js";

/** A whole answer of one choice. */
export function wholeAnswer(
  body: Json,
  options: CodecOptions,
  shape: Shape,
  /** What is left of it where it was stopped: no more than its texts, or the replacement in their place. */
  cut: (passed: Json, replacement: string | null, violation: ModerationViolation) => Json,
): WholeAnswer {
  const hidden = { hidden: false };
  const reader = new WholeReader(options, hidden);
  const passed = shape(body, reader) as Json;
  const answer: WholeAnswer = {
    body: passed,
    slots: [reader.slots],
    stop([violation]) {
      if (!violation) return;
      hidden.hidden = true;
      answer.body = cut(passed, options.replacement(violation), violation);
    },
  };
  return answer;
}
