import type { nameOf } from "../../gate/attempt.js";
import type { GuardConfig } from "../../model/config.js";
import { severityOf } from "../../moderation/labels.js";
import type { Action, Policy, Strictness } from "../../moderation/policy.js";
import { assess, type Finding, turnsInScope } from "../../moderation/ruling.js";
import type { TurnVerdict, Verdict } from "../../moderation/verdict.js";
import type { Told, ToldVerdict } from "../record/watcher.js";

/** What was decided. docs/audit.md tells what each means. */
export type AuditAction =
  | "passed"
  | "observed"
  | "dropped"
  | "stopped"
  | "replaced"
  | "refused"
  | "failed"
  | "failed_open"
  | "cancelled"
  | "unjudged"
  | "told";

/** What it was decided of: the request as a whole, where nothing of it was judged. */
export type AuditPart = "request" | "prompt" | "input" | "response" | "tool_call";

/** A decision, as it is written down. Of texts it holds hashes; the texts themselves only where that was asked for. */
export interface AuditEntry extends Evidence {
  /** When it was decided. ISO 8601, UTC. */
  time: string;
  requestId: string;
  /** Of OpenTelemetry's; null where no SDK is there. */
  traceId: string | null;
  route: string;
  /** As asked for where it is an identifier, else its hash and length. */
  model: string | null;
  stream: boolean;
  /** The rule of the policies file that chose the policy; null: none did. */
  policy: string | null;
  part: AuditPart;
  /** Which of a request's choices, or inputs, from 0; null for the request as a whole. */
  choice: number | null;
  action: AuditAction;
  /** Code of what went wrong. */
  error: string | null;
  /** Of an answer: how often the model had been asked to go on before (mode "regenerate"; else 0). */
  attempt: number | null;
  /** How it is asked to go on from what was dropped. */
  intervention: ReturnType<typeof nameOf> | null;
  /** Tokens that were judged. */
  tokens: number | null;
  /** How much of what kind went on that nobody judged. */
  unjudged: Readonly<Record<string, number>>;
  /** HMAC-SHA-256 of the judged text. */
  hash: string | null;
  /** The same of a conversation's last message alone. */
  lastHash: string | null;
  keyId: string;
  text?: string;
}

/** What a decision stands on. */
export interface Evidence {
  risk: string | null;
  riskProbability: number | null;
  category: string | null;
  categoryProbability: number | null;
  /** Softmax, by label. */
  probabilities: { risk: Record<string, number>; category: Record<string, number> } | null;
  /** The token that made it so, and the first of its row. */
  index: number | null;
  from: number | null;
  /** Of the answer's text, in UTF-16 units. */
  span: { start: number; end: number } | null;
  rule: {
    reading: Strictness;
    /** The risk's, where the policy names one. */
    threshold: number | null;
    debounce: number;
    /** What the policy says of the category, and from which probability on. */
    action: Action;
    categoryThreshold: number;
  } | null;
}

export const NO_EVIDENCE: Evidence = {
  risk: null,
  riskProbability: null,
  category: null,
  categoryProbability: null,
  probabilities: null,
  index: null,
  from: null,
  span: null,
  rule: null,
};

type Labels = GuardConfig["labels"];

/** What a policy's rules took note of. */
export function evidenceOf(finding: Finding, policy: Policy, labels: Labels): Evidence {
  const { part, action, risk, riskProbability, category, categoryProbability, index, from } = finding;
  const rule = policy[part].categories.find(({ label }) => label === category);
  return {
    ...{ risk, riskProbability, category, categoryProbability, index, from },
    probabilities: byLabel(finding.probabilities, part, labels),
    span: null,
    rule: { ...finding.rule, action, categoryThreshold: rule?.threshold ?? 0 },
  };
}

/** Of a prompt that passes: the turn that was least sure to be safe, of those that counted. */
export function evidenceOfPass(turns: readonly TurnVerdict[], policy: Policy, labels: Labels): Evidence {
  const safe = labels.promptRisk.findIndex((label) => severityOf(label) === "safe");
  const sureness = ({ probabilities }: TurnVerdict) => probabilities.risk[safe];
  const counting = turnsInScope(turns, policy.prompt.scope);
  if (counting.length === 0) return NO_EVIDENCE;
  const turn = counting.reduce((least, next) => (sureness(next) < sureness(least) ? next : least));
  const { risk, riskProbability, category, categoryProbability, index } = turn;
  return {
    ...NO_EVIDENCE,
    ...{ risk, riskProbability, category, categoryProbability, index },
    probabilities: byLabel(turn.probabilities, "prompt", labels),
  };
}

/** Of a verdict that was asked for. */
export function evidenceOfTold(
  { part, verdict, index, policy, action, finding }: Told,
  labels: Labels,
): Evidence {
  if (finding && policy) return evidenceOf(finding, policy, labels);
  if (!verdict) return NO_EVIDENCE;
  const { risk, riskProbability, category, categoryProbability, probabilities } = verdict;
  const judged = part === "response" ? "response" : "prompt";
  return {
    ...NO_EVIDENCE,
    ...{ risk, riskProbability, category, categoryProbability, index },
    probabilities: probabilities ? byLabel(probabilities, judged, labels) : null,
    ...(policy && action !== "passed" ? ruledBy(verdict, policy, judged) : {}),
  };
}

/** As what a single verdict counts, a Gen guard's: it has no row of tokens. */
function ruledBy(
  { risk, probabilities }: ToldVerdict,
  policy: Policy,
  part: Finding["part"],
): Partial<Evidence> {
  const rules = policy[part];
  if (!probabilities || probabilities.category.length === 0) return {};
  const count = assess({ index: 0, risk, probabilities }, rules);
  if (!count) return {};
  const { threshold, action, ...as } = count;
  const categoryThreshold = rules.categories.find(({ label }) => label === as.category)?.threshold ?? 0;
  return { ...as, rule: { reading: rules.reading, threshold, debounce: 1, action, categoryThreshold } };
}

function byLabel(
  { risk, category }: Verdict["probabilities"],
  part: Finding["part"],
  labels: Labels,
): NonNullable<Evidence["probabilities"]> {
  const named = (names: readonly string[], values: readonly number[]) =>
    Object.fromEntries(values.map((value, i) => [names[i], value]));
  return part === "prompt"
    ? { risk: named(labels.promptRisk, risk), category: named(labels.promptCategory, category) }
    : { risk: named(labels.responseRisk, risk), category: named(labels.responseCategory, category) };
}
