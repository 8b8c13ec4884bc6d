import type { GenLabels } from "../../tokenizer/chat-template/gen-form.js";
import type { Classification, ClassificationRuling } from "../classification.js";
import { severityOf } from "../labels.js";
import type { Policy } from "../policy.js";
import { assess, countingRisk } from "../ruling.js";
import { type AnswerForms, NONE, textOf } from "./answer-forms.js";
import type { AnswerReader } from "./answer-reader.js";
import { scoreNames } from "./names.js";

/** What one question to a Gen guard is about. */
export interface GenQuestion {
  part: Classification["part"];
  labels: GenLabels;
  policy?: Policy;
}

/**
 * Reads a verdict off a Gen guard instead of having it written: the risk from the first tokens that tell its names apart,
 * and only where it is not safe the category, from whole names; of an answer whether it refuses. `risk`, `category` and
 * `refusal` are what greedy decoding would have written.
 */
export async function judgeByWords(
  reader: AnswerReader,
  forms: AnswerForms,
  { part, labels, policy }: GenQuestion,
): Promise<Classification> {
  const risks = part === "prompt" ? labels.promptRisk : labels.responseRisk;
  const categories = part === "prompt" ? labels.promptCategory : labels.responseCategory;
  const rules = policy?.[part];
  // Most answers are safe: then the refusal is known from the same run.
  if (part === "response") await expectSafe(reader, forms, risks);
  const scored = await scoreNames(reader, forms.risks(risks), false);
  const risk = risks[scored.written];
  const isSafe = severityOf(risk) === "safe";
  const probabilities = { risk: scored.probabilities, category: [] as number[] };
  // What counts by a threshold is asked for its category too, though another label is the likeliest.
  const counting = rules && countingRisk({ risk, probabilities }, rules);
  const asked = isSafe ? counting?.label : risk;
  let category: number | null = null;
  if (asked !== undefined) {
    const { probabilities: each, written } = await scoreNames(
      reader,
      forms.categories(asked, categories),
      true,
      part === "response" && !isSafe ? forms.refusalLine : undefined,
    );
    probabilities.category = each.slice(0, categories.length);
    if (!isSafe && written < categories.length) category = written;
  }
  const name = category === null ? undefined : categories[category];
  const refusal = part === "response" ? await readRefusal(reader, forms, risk, name) : null;
  const found: Classification = {
    part,
    risk,
    riskProbability: scored.probabilities[scored.written],
    category: name ?? null,
    categoryProbability: category === null ? null : probabilities.category[category],
    refusal: refusal ? refusal.said === "Yes" : null,
    refusalProbability: refusal?.probability ?? null,
    probabilities,
    flaggedAt: null,
    text: textOf({ risk, category: name, refusal: refusal?.said }),
    ...{ promptTokens: reader.promptTokens, reusedTokens: reader.reusedTokens, tokens: 0 },
  };
  return policy ? { ...found, ruling: ruled(found, policy) } : found;
}

async function expectSafe(reader: AnswerReader, forms: AnswerForms, risks: readonly string[]): Promise<void> {
  const safe = risks.find((label) => severityOf(label) === "safe");
  if (safe === undefined) return;
  const answer = [...forms.ids({ risk: safe, category: NONE }), ...forms.refusalLine];
  await reader.expect(answer, [forms.riskLine.length, answer.length]);
}

async function readRefusal(
  reader: AnswerReader,
  forms: AnswerForms,
  risk: string,
  category?: string,
): Promise<{ said: string; probability: number }> {
  const choice = forms.refusals(risk, category);
  const { probabilities, written } = await scoreNames(reader, choice, false);
  return { said: choice.names[written], probability: probabilities[choice.names.indexOf("Yes")] };
}

const GRAVITY = ["pass", "observe", "block"] as const;

/** The graver of what the policy makes of the risk and of the refusal. */
function ruled({ part, risk, probabilities, refusal }: Classification, policy: Policy): ClassificationRuling {
  const rules = policy[part];
  const count = probabilities.category.length > 0 ? assess({ index: 0, risk, probabilities }, rules) : null;
  const byRisk: ClassificationRuling = count
    ? { action: count.action, cause: "risk", risk: count.risk, category: count.category }
    : { action: "pass", cause: null, risk: null, category: null };
  const action = policy.response.refusal;
  if (!refusal || action === "ignore" || GRAVITY.indexOf(byRisk.action) >= GRAVITY.indexOf(action))
    return byRisk;
  return { ...byRisk, action, cause: "refusal" };
}
