import { isRecord, type Json, list, record } from "../../validation/json.js";
import { type Fields, invalid, level, type Slot } from "../answer/allow-list.js";
import type { CodecOptions, WholeAnswer } from "../answer/codec.js";
import { WholeReader } from "../answer/readers.js";
import { type Annotations, choiceFilters, moderationOf, promptFilters } from "./annotations.js";
import { bodyFields } from "./choices-fields.js";

const body = level(bodyFields);

/** A whole answer in numbered choices. */
export function wholeChoices(
  answer: Json,
  options: CodecOptions,
  fields: Fields,
  /** What is left of a choice that was stopped, or stands in its place. */
  rest: (choice: Json, replacement: string | null) => Json,
): WholeAnswer {
  const { choices, ...others } = answer;
  if (!Array.isArray(choices)) throw invalid("no choices");
  const hidden = { hidden: false };
  const slots: Slot[][] = options.parsed.choices.map(() => []);
  const choice = level(fields);
  const read = choices.map((value, i): Json => {
    if (!isRecord(value)) throw invalid("a choice that is no object");
    const index = indexOf(value, i, slots.length);
    const reader = new WholeReader(options, hidden);
    const own = choice(value, reader) as Json;
    slots[index].push(...reader.slots);
    return { ...own, index };
  });
  const passed: Json = { ...(body(others, new WholeReader(options, hidden)) as Json), choices: read };
  return {
    body: passed,
    slots,
    stop(violations) {
      hidden.hidden = true;
      passed.choices = read.map((own) => {
        const violation = violations[own.index as number];
        if (!violation) return own;
        const { index } = own;
        return {
          index,
          ...rest(own, options.replacement(violation)),
          finish_reason: "content_filter",
          logprobs: null,
          qwen3guard: violation.toJSON(),
        };
      });
      passed.qwen3guard = violations.find((violation) => violation !== null)?.toJSON();
    },
  };
}

/** A whole answer with what the guard says of it. */
export function annotateChoices(body: Json, annotations: Annotations): Json {
  if (annotations.style === "openai") return { ...body, moderation: moderationOf(annotations) };
  const choices = list(body.choices).map((choice) => {
    const own = record(choice);
    return { ...own, ...choiceFilters(annotations.keepers[Number(own.index)]) };
  });
  return { ...body, choices, prompt_filter_results: promptFilters(annotations) };
}

/** A whole answer of so many choices that say nothing. */
export function blankChoices({ request, parsed }: CodecOptions, kind: string, said: Json): Json {
  const choices = parsed.choices.map((_, index) => ({
    index,
    ...said,
    finish_reason: "stop",
    logprobs: null,
  }));
  return { object: kind, created: Math.floor(Date.now() / 1000), model: request.model, choices };
}

/** The index of a choice; more than asked for cannot be judged, as nobody holds a place for them. */
export function indexOf({ index = null }: Json, otherwise: number, count: number): number {
  const own = index === null ? otherwise : index;
  if (typeof own === "number" && Number.isInteger(own) && own >= 0 && own < count) return own;
  throw invalid(`a choice that was not asked for, of ${count}`);
}
