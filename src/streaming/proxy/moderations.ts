import type { Guard } from "../../guard.js";
import { severityOf } from "../../moderation/labels.js";
import type { Policy } from "../../moderation/policy.js";
import { rulePrompt } from "../../moderation/ruling.js";
import { RequestError } from "./api-error.js";
import { isRecord, type Json } from "./json.js";

/** They take turns in one place: more would hold it for long. */
const MOST_INPUTS = 256;
/** OpenAI's names for what the released checkpoints have a category for. */
const ALIASES: Record<string, string> = {
  Violent: "violence",
  "Sexual Content or Sexual Acts": "sexual",
  "Suicide & Self-Harm": "self-harm",
  "Non-violent Illegal Acts": "illicit",
};

/**
 * `/v1/moderations`: each text is judged as a prompt. Categories have the checkpoint's names, and OpenAI's beside them
 * where they mean the same; a score is the probability of not being safe times that of the category.
 */
export async function moderations(
  body: Json,
  guard: Guard,
  policy: Policy,
  options: { signal: AbortSignal; cacheKey: string },
): Promise<Json> {
  const results: Json[] = [];
  for (const content of inputs(body.input)) {
    const stream = guard.stream({ messages: [{ role: "user", content }], ...options });
    try {
      const verdict = await stream.prompt;
      if (verdict === null) throw new RequestError(500, "internal_error", "The guard gave no verdict.");
      const violation = rulePrompt(verdict, policy).violation;
      const { promptRisk, promptCategory } = guard.labels;
      const safe = promptRisk.findIndex((label) => severityOf(label) === "safe");
      const categories: Record<string, boolean> = {};
      const scores: Record<string, number> = {};
      for (const [i, label] of promptCategory.entries()) {
        for (const name of [label, ALIASES[label]]) {
          if (name === undefined) continue;
          categories[name] = violation?.category === label;
          scores[name] = (1 - verdict.probabilities.risk[safe]) * verdict.probabilities.category[i];
        }
      }
      results.push({ flagged: violation !== null, categories, category_scores: scores, risk: verdict.risk });
    } finally {
      stream.close();
    }
  }
  return {
    id: `modr-${crypto.randomUUID()}`,
    model: typeof body.model === "string" ? body.model : "qwen3guard",
    results,
  };
}

function inputs(input: unknown): string[] {
  const items = Array.isArray(input) ? input : [input];
  if (items.length > MOST_INPUTS) {
    throw new RequestError(400, "too_many_inputs", `input must hold no more than ${MOST_INPUTS} texts.`);
  }
  // A list of parts is one input, a list of texts is as many.
  if (items.length > 0 && items.every((item) => typeof item === "string")) return items;
  if (items.length > 0 && items.every((item) => isRecord(item) && typeof item.text === "string")) {
    return [items.map((item) => item.text).join("\n")];
  }
  throw new RequestError(
    400,
    "input_unreadable",
    "input must be a text, a list of texts, or a list of text parts.",
  );
}
