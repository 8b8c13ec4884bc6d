import type { Guard } from "../../guard.js";
import type { Policy } from "../../moderation/policy.js";
import { rulePrompt } from "../../moderation/ruling.js";
import { verdictsOfTurn } from "../../moderation/verdict.js";
import type { Json } from "../../validation/json.js";
import { scoresOf } from "../answer/scores.js";
import { RequestError } from "../api-error.js";
import type { RequestRecord } from "../record/record.js";
import { categoriesOf } from "./annotations.js";
import { moderationInputs } from "./moderation-inputs.js";

/**
 * `/v1/moderations`: each text is judged as a prompt, in windows where it is longer than the context; the worst counts. Categories have the checkpoint's names, and OpenAI's beside them
 * where they mean the same; a score is the probability of not being safe times that of the category.
 */
export async function moderations(
  body: Json,
  guard: Guard,
  policy: Policy,
  { record, ...options }: { signal: AbortSignal; cacheKey: string; record: RequestRecord },
): Promise<Json> {
  const results: Json[] = [];
  for (const [i, content] of moderationInputs(body.input).entries()) {
    const messages = [{ role: "user", content }];
    const stream = guard.stream({ messages, overflow: "slide", closely: true, scope: "turn", ...options });
    try {
      const verdict = await stream.prompt;
      if (verdict === null) throw new RequestError(500, "internal_error", "The guard gave no verdict.");
      const judged = verdictsOfTurn(await stream.turns, verdict);
      record.read(stream);
      const ruling = rulePrompt(judged, policy);
      const { violation } = ruling;
      const told = { messages, policy, ruling, turns: judged, unguarded: false };
      for (const watcher of record.watchers) watcher.input(i, told);
      const { promptRisk, promptCategory } = guard.labels;
      const scored = judged.map(({ probabilities }) => scoresOf(probabilities, promptRisk));
      const probable = promptCategory.map((_, i) => Math.max(...scored.map((scores) => scores[i])));
      const scores = Object.fromEntries(promptCategory.map((label, i) => [label, probable[i]]));
      const flagged = new Set(violation ? [violation.category] : []);
      results.push({ flagged: violation !== null, ...categoriesOf({ scores, flagged }), risk: verdict.risk });
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
