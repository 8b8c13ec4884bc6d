import { InputError } from "../errors.js";
import { type OptionCheck, wholeFrom } from "../validation/options.js";
import type { ModerationViolation } from "./violation.js";

/**
 * How a source goes on from the text that its reader has, after what came next was flagged and dropped.
 * "resample": from there, with nothing said. { phrase }: from there and a phrase, which the reader gets as well.
 * { instruction }: from there and words that only the model reads, as if it had said them. "introspection": an instruction
 * to say in one sentence what was wrong, and to go on safely; the reader gets that sentence.
 */
export type Intervention =
  | "resample"
  | "introspection"
  | { phrase: string; instruction?: undefined }
  | { instruction: string; phrase?: undefined };

/** What a source is asked for. */
export interface Attempt {
  /** 0: the answer from its beginning. From 1 on, how often it has been begun again. */
  attempt: number;
  /** What the reader has, or will have: what the source gives goes on from it. "" where that is nothing. */
  prefix: string;
  /** What the model's own turn begins with: `prefix`, and after it what only the model is to read. */
  turn: string;
  /** Null at attempt 0. */
  intervention: Intervention | null;
  /** What was flagged and dropped; null at attempt 0. Throw it where the source cannot go on: it ends the answer. */
  violation: ModerationViolation | null;
}

/** Of the mode "regenerate". */
export interface RegenerateOptions {
  /** How many of the newest tokens are held, and dropped at a flag. From 1 to 1024. Default 40. */
  buffer?: number;
  /** How often the source is asked to go on, in the whole answer. From 1 to 100. Default 5. */
  attempts?: number;
  /** Default "resample". */
  intervention?: Intervention;
}

export const BUFFER = 40;
export const ATTEMPTS = 5;

export const INTROSPECTION =
  "(I stop here for a moment: what I was about to write could do harm. In one sentence I say what was wrong with it, and " +
  "then I go on in a way that is safe and helpful.)";

const anIntervention: OptionCheck = (value) => {
  if (value === "resample" || value === "introspection") return null;
  const words = typeof value === "object" && value !== null ? Object.entries(value) : [];
  const [[name, text]] = words.length === 1 ? words : [["", ""]];
  return ["phrase", "instruction"].includes(name) && typeof text === "string" && text.trim() !== ""
    ? null
    : '"resample", "introspection", { "phrase": … } or { "instruction": … }';
};

export const REGENERATE_OPTIONS = {
  buffer: wholeFrom(1, 1024),
  attempts: wholeFrom(1, 100),
  intervention: anIntervention,
} satisfies Record<keyof RegenerateOptions, OptionCheck>;

export const FIRST_ATTEMPT: Attempt = {
  attempt: 0,
  prefix: "",
  turn: "",
  intervention: null,
  violation: null,
};

/** @param released what the reader has */
export function nextAttempt(
  attempt: number,
  released: string,
  intervention: Intervention,
  violation: ModerationViolation,
): Attempt {
  const { phrase = "", instruction = "" } = wordsOf(intervention);
  const prefix = released + phrase;
  const turn = [prefix, instruction].filter((words) => words !== "").join("\n\n");
  return { attempt, prefix, turn, intervention, violation };
}

/** An intervention's name: it says nothing of the words that it may hold. */
export function nameOf(intervention: Intervention): "resample" | "introspection" | "phrase" | "instruction" {
  if (typeof intervention === "string") return intervention;
  return intervention.phrase === undefined ? "instruction" : "phrase";
}

function wordsOf(intervention: Intervention): { phrase?: string; instruction?: string } {
  if (intervention === "resample") return {};
  return intervention === "introspection" ? { instruction: INTROSPECTION } : intervention;
}

/** Servers that go on with an assistant's turn that is not at its end. */
export type ContinuingServer = "vllm" | "llama.cpp" | "anthropic";

export const CONTINUING_SERVERS: readonly ContinuingServer[] = ["vllm", "llama.cpp", "anthropic"];

/** A request's fields that have a server go on with a turn. */
export interface ContinuedTurn<M> {
  messages: (M | { role: "assistant"; content: string })[];
  /** vLLM's. */
  continue_final_message?: true;
  add_generation_prompt?: false;
}

/**
 * What a request to a server holds that is to go on with an answer: `{ ...request, ...continueTurn("vllm", messages, attempt) }`.
 *
 * @param messages the conversation, which the user's turn ends
 * @throws {InputError} OPTION_INVALID: a server that is not known to go on
 */
export function continueTurn<M extends object>(
  server: ContinuingServer,
  messages: readonly M[],
  { turn }: Pick<Attempt, "turn">,
): ContinuedTurn<M> {
  if (!CONTINUING_SERVERS.includes(server)) throw unknownServer(server);
  // Anthropic refuses white space at a turn's end.
  const content = server === "anthropic" ? turn.trimEnd() : turn;
  if (content === "") return { messages: [...messages] };
  const continued: ContinuedTurn<M> = { messages: [...messages, { role: "assistant", content }] };
  return server === "vllm"
    ? { ...continued, continue_final_message: true, add_generation_prompt: false }
    : continued;
}

function unknownServer(server: unknown): InputError {
  return new InputError(
    "OPTION_INVALID",
    `${JSON.stringify(server)} is no server that is known to go on with an answer; those are ${CONTINUING_SERVERS.join(", ")}.`,
  );
}
