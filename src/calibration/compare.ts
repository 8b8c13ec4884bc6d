import { loadGenGuard } from "../gen-guard.js";
import { type Guard, loadGuard } from "../guard.js";
import type { Comparison } from "../model/manifest.js";
import { readManifest } from "../model/read-manifest.js";
import type { Judgement } from "../moderation/verdict.js";
import { CONVERSATIONS } from "./conversations.js";

type Judged = Pick<Judgement, "risk" | "category" | "probabilities">;

/** Verdicts of every sample's prompt and of each token of its response; a Gen guard has one of the response. */
async function judgeSamples(modelDir: string, onSample: () => void): Promise<Judged[]> {
  const { config } = await readManifest(modelDir);
  if (config.kind === "gen") return judgeByWords(modelDir, onSample);
  const guard = await loadGuard(modelDir, { maxStreams: 1, device: "cpu" });
  try {
    const verdicts: Judged[] = [];
    for (const { messages, response } of CONVERSATIONS) {
      verdicts.push(...(await judge(guard, messages, response)));
      onSample();
    }
    return verdicts;
  } finally {
    await guard.close();
  }
}

async function judgeByWords(modelDir: string, onSample: () => void): Promise<Judged[]> {
  const guard = await loadGenGuard(modelDir, { maxStreams: 1, device: "cpu" });
  try {
    const verdicts: Judged[] = [];
    for (const { messages, response } of CONVERSATIONS) {
      const answer = { role: "assistant", content: response };
      verdicts.push(await guard.classify({ messages }));
      verdicts.push(await guard.classify({ messages: [...messages, answer] }));
      onSample();
    }
    return verdicts;
  } finally {
    await guard.close();
  }
}

async function judge(
  guard: Guard,
  ...[messages, response]: [Parameters<Guard["stream"]>[0]["messages"], string]
) {
  const stream = guard.stream({ messages: messages!, overflow: "slide" });
  try {
    const prompt = await stream.prompt;
    const tokens = await stream.pushText(response);
    return prompt ? [prompt, ...tokens] : tokens;
  } finally {
    stream.close();
  }
}

/** Runs the sample conversations through two exports of one checkpoint and measures how far their verdicts differ. */
export async function compareModels(
  referenceDir: string,
  modelDir: string,
  onProgress?: (done: number, total: number) => void,
): Promise<Comparison> {
  let done = 0;
  const onSample = () => onProgress?.(++done, 2 * CONVERSATIONS.length);
  const reference = await judgeSamples(referenceDir, onSample);
  const verdicts = await judgeSamples(modelDir, onSample);
  let [sameRisk, flagged, sameCategory, largest, sum, count] = [0, 0, 0, 0, 0, 0];
  reference.forEach((expected, i) => {
    const found = verdicts[i];
    if (found.risk === expected.risk) sameRisk++;
    if (expected.category !== null) {
      flagged++;
      if (found.category === expected.category) sameCategory++;
    }
    expected.probabilities.risk.forEach((probability, label) => {
      const change = Math.abs(found.probabilities.risk[label] - probability);
      largest = Math.max(largest, change);
      sum += change;
      count++;
    });
  });
  return {
    verdicts: reference.length,
    riskAgreement: sameRisk / reference.length,
    categoryAgreement: flagged === 0 ? 1 : sameCategory / flagged,
    largestChange: largest,
    meanChange: sum / count,
  };
}
