import type { Json } from "../../validation/json.js";
import { RequestError } from "../api-error.js";
import { promptOf } from "../request/beside.js";
import type { FieldReader } from "../request/fields.js";
import type { ParsedRequest, Prompt } from "../request/parsed-request.js";
import { countOf, streamOf } from "../request/settings.js";
import { COMPLETIONS_BODY } from "../request/tables.js";

const MOST_CHOICES = 4096;

/** Of `/v1/completions`. @throws {RequestError} where the request holds what cannot be judged */
export function parseCompletions(body: Json, reader: FieldReader): ParsedRequest {
  const { standing, passing } = reader.beside(body, COMPLETIONS_BODY);
  // Once, not for each of many prompts.
  const beside = { standing: joined(standing), passing: joined(passing) };
  const texts = promptsOf(body.prompt);
  const n = countOf(body.n);
  // Before they are written out: a short request can ask for hundreds of millions.
  if (texts.length * n > MOST_CHOICES) {
    const message = `${texts.length} prompts times n of ${n} are too many choices: ask for ${MOST_CHOICES} at most.`;
    throw new RequestError(400, "too_many_choices", message);
  }
  const suffix = suffixOf(body.suffix);
  const prompts = texts.map((prompt) =>
    promptOf([{ role: "user", content: prompt + suffix }], beside, reader),
  );
  return {
    choices: prompts.flatMap((prompt) => Array<Prompt>(n).fill(prompt)),
    stream: streamOf(body.stream),
  };
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

function suffixOf(suffix: unknown): string {
  if (suffix === undefined || suffix === null) return "";
  if (typeof suffix === "string") return suffix;
  throw new RequestError(400, "prompt_unreadable", "suffix must be a text.");
}

function joined(texts: readonly string[]): string[] {
  return texts.length > 0 ? [[...new Set(texts)].join("\n")] : [];
}
