import type { Policy } from "../../moderation/policy.js";
import type { Message } from "../../tokenizer/template.js";
import { conversation } from "../reply.js";
import { RequestError } from "./api-error.js";
import { type Json, text } from "./json.js";
import { chatMessages, responsesMessages } from "./messages.js";

/** One prompt of a request, and how its answer begins where the request says so. */
export interface Prompt {
  messages: Message[];
  lead: string;
}

/** What a request asks for. */
export interface Ask {
  /** One for each choice that will come, in the order of their indexes. */
  choices: Prompt[];
  stream: boolean;
}

const MOST_CHOICES = 4096;

/** Of `/v1/chat/completions`. @throws {InputError} where the request holds what cannot be judged */
export function askChat(body: Json, policy: Policy): Ask {
  const prompt = conversation(chatMessages(body.messages, policy));
  return { choices: Array(countOf(body.n)).fill(prompt), stream: body.stream === true };
}

/** Of `/v1/completions`. @throws {RequestError} where the request holds what cannot be judged */
export function askCompletions(body: Json): Ask {
  const texts = promptsOf(body.prompt);
  const n = countOf(body.n);
  // Before they are written out: a short request can ask for hundreds of millions.
  if (texts.length * n > MOST_CHOICES) {
    throw new RequestError(400, "too_many_choices", `${texts.length * n} choices are too many.`);
  }
  const prompts = texts.map((prompt): Prompt => {
    const content = prompt + text(body.suffix);
    return { messages: [{ role: "user", content }], lead: "" };
  });
  return {
    choices: prompts.flatMap((prompt) => Array<Prompt>(n).fill(prompt)),
    stream: body.stream === true,
  };
}

/** Of `/v1/responses`. @throws {InputError} where the request holds what cannot be judged */
export function askResponses(body: Json, policy: Policy): Ask {
  const prompt = conversation(responsesMessages(body, policy));
  return { choices: [prompt], stream: body.stream === true };
}

/** How many choices a request asks for. @throws {RequestError} invalid_n */
function countOf(n: unknown): number {
  if (n === undefined || n === null) return 1;
  if (Number.isInteger(n) && Number(n) >= 1 && Number(n) <= 128) return Number(n);
  throw new RequestError(
    400,
    "invalid_n",
    `n is ${JSON.stringify(n)}; it must be a whole number from 1 to 128.`,
  );
}

function promptsOf(prompt: unknown): string[] {
  const prompts = Array.isArray(prompt) ? prompt : [prompt ?? ""];
  if (prompts.length > 0 && prompts.every((one) => typeof one === "string")) return prompts;
  throw new RequestError(
    400,
    "prompt_unreadable",
    "prompt must be a text or a list of texts: token ids belong to the model's tokenizer, which the guard does not have.",
  );
}
