import { InputError } from "../errors.js";
import { severityOf } from "./labels.js";
import type { Policy, PromptScope, RiskRule, Rules } from "./policy.js";
import { indexOfHighest, type TurnVerdict, type Verdict } from "./verdict.js";

/** What a policy needs to know of a token. */
export type Evidence = Pick<Verdict, "index" | "risk" | "probabilities">;

/** How a policy takes one token, where it does not take it as safe. */
export interface Count {
  action: "observe" | "block";
  risk: string;
  /** 0 to 1. */
  riskProbability: number;
  category: string;
  /** 0 to 1. */
  categoryProbability: number;
  /** The threshold that the risk's probability reached; null where it was the most likely label. */
  threshold: number | null;
}

/** Something that a policy's rules took note of. */
export interface Finding {
  part: "prompt" | "response";
  action: "observe" | "block";
  risk: string;
  riskProbability: number;
  category: string;
  categoryProbability: number;
  /** Softmax over all labels at `index`, in the order of the checkpoint's maps. */
  probabilities: Verdict["probabilities"];
  /** The token that made it so: the last of the row that the debounce asks for. For a prompt its `<|im_end|>`. */
  index: number;
  /** The first token of that row. */
  from: number;
  /** The rule that fired. */
  rule: {
    reading: "strict" | "loose";
    /** The risk's threshold, where the policy names one. */
    threshold: number | null;
    debounce: number;
  };
}

/** What a policy makes of a prompt, or of a response so far. */
export interface Ruling {
  action: "pass" | "observe" | "block";
  /** What blocks; nothing after it was looked at. */
  violation: Finding | null;
  /** What was observed before, once for each row of tokens. */
  observed: Finding[];
}

/** How the rules take one token: null where it counts for nothing. */
export function assess(evidence: Evidence, rules: Rules): Count | null {
  const counting = countingRisk(evidence, rules);
  if (!counting) return null;
  const { probabilities } = evidence;
  const top = indexOfHighest(probabilities.category);
  const categoryProbability = probabilities.category[top];
  const { label: category, action, threshold: least } = rules.categories[top];
  if (action === "ignore" || categoryProbability < least) return null;
  const { label, index, threshold } = counting;
  const riskProbability = probabilities.risk[index];
  return { action, risk: label, riskProbability, category, categoryProbability, threshold };
}

/** The risk as which a token counts, whatever its category, and the threshold that was reached; null where it is none. */
export function countingRisk(
  {
    risk,
    probabilities,
  }: Pick<Evidence, "risk"> & { probabilities: Pick<Evidence["probabilities"], "risk"> },
  { risks, threshold: together }: Pick<Rules, "risks" | "threshold">,
): Pick<RiskRule, "label" | "index" | "threshold"> | null {
  const probability = ({ index }: Pick<RiskRule, "index">) => probabilities.risk[index];
  for (const rule of risks) {
    const { label, threshold } = rule;
    if (threshold === null ? together === null && risk === label : probability(rule) >= threshold)
      return rule;
  }
  if (together === null || risks.length === 0) return null;
  if (!(risks.reduce((sum, rule) => sum + probability(rule), 0) >= together)) return null;
  const likeliest = risks.reduce((most, rule) => (probability(rule) > probability(most) ? rule : most));
  return { ...likeliest, threshold: together };
}

/**
 * A policy's rules carried along a row of tokens. Tokens that block count in a row for a violation; tokens that block
 * or are to be observed count in a row for a note.
 */
export class RuleTracker {
  readonly #rules: Rules;
  #blocking = 0;
  #counting = 0;
  #violation: Finding | null = null;

  constructor(rules: Rules) {
    this.#rules = rules;
  }

  get violation(): Finding | null {
    return this.#violation;
  }

  /** Tokens at the end that could still become part of a violation, or are part of it. */
  get pending(): number {
    return this.#blocking;
  }

  /** Takes the next token; returns what it completes. Nothing counts after a violation. */
  take(evidence: Evidence): Finding | null {
    if (this.#violation) return null;
    const count = assess(evidence, this.#rules);
    this.#counting = count ? this.#counting + 1 : 0;
    this.#blocking = count?.action === "block" ? this.#blocking + 1 : 0;
    if (!count) return null;
    if (this.#blocking === this.#rules.debounce) {
      this.#violation = this.#finding("block", count, evidence);
      return this.#violation;
    }
    return this.#counting === this.#rules.debounce ? this.#finding("observe", count, evidence) : null;
  }

  #finding(action: "observe" | "block", count: Count, { index, probabilities }: Evidence): Finding {
    const { part, reading, debounce } = this.#rules;
    const { risk, riskProbability, category, categoryProbability, threshold } = count;
    return {
      part,
      action,
      risk,
      riskProbability,
      category,
      categoryProbability,
      probabilities,
      index,
      from: index - debounce + 1,
      rule: { reading, threshold, debounce },
    };
  }
}

/**
 * What a policy makes of a conversation before its answer: the worst of the turns that its scope names.
 *
 * @param prompt the verdicts of a stream's `turns`; or a single one, which is taken for the prompt's
 * @throws {InputError} PROMPT_UNJUDGED: there is no verdict, and the policy does not let pass what was not judged
 */
export function rulePrompt(prompt: Evidence | readonly TurnVerdict[] | null, policy: Policy): Ruling {
  const verdicts = isList(prompt) ? turnsInScope(prompt, policy.prompt.scope) : prompt ? [prompt] : [];
  if (verdicts.length === 0 && policy.unjudged === "refuse") {
    throw new InputError(
      "PROMPT_UNJUDGED",
      "The prompt has no turn that ends, so there is no verdict on it. Close it with <|im_end|>, give messages in " +
        'place of ids, or let it pass with "unjudged": "pass" in the policy.',
    );
  }
  const rulings = verdicts.map((verdict) => rule([verdict], policy.prompt));
  const observed = rulings.flatMap((ruling) => ruling.observed);
  const violation = worst(rulings.flatMap((ruling) => ruling.violation ?? []));
  return { action: actionOf(violation, observed), violation, observed };
}

/**
 * The turns that count for a scope. The last one before the answer that has something in it counts whoever's it is: a
 * verdict sees what stands before it, and none of the user's sees what comes after the user has spoken. So does a
 * standing one.
 */
export function turnsInScope<T extends Pick<TurnVerdict, "role" | "empty" | "standing"> & { turn?: number }>(
  turns: readonly T[],
  scope: PromptScope,
): T[] {
  if (scope === "conversation") return [...turns];
  const said = turns.filter(({ standing }) => !standing);
  const answer = turns.findLastIndex(({ role }) => role === "assistant");
  const last = said.findLast(({ role }) => role === "user");
  const told = said.findLast(({ role, empty }) => !empty && role !== "assistant") ?? said.at(-1);
  const isOf = (own: T, other: T | undefined) =>
    own === other || (own.turn !== undefined && own.turn === other?.turn);
  return turns.filter(
    (own, i) => own.standing || (own.role === "user" && i > answer) || isOf(own, last) || isOf(own, told),
  );
}

function isList(prompt: Evidence | readonly TurnVerdict[] | null): prompt is readonly TurnVerdict[] {
  return Array.isArray(prompt);
}

/** The gravest; of several the most certain, of equals the first. */
function worst(findings: Finding[]): Finding | null {
  const gravity = ({ risk }: Finding) => (severityOf(risk) === "unsafe" ? 1 : 0);
  const [first = null] = findings.toSorted(
    (a, b) => gravity(b) - gravity(a) || b.riskProbability - a.riskProbability,
  );
  return first;
}

/** What a policy makes of a response's verdicts, in order. */
export function ruleResponse(verdicts: readonly Evidence[], policy: Policy): Ruling {
  return rule(verdicts, policy.response);
}

function rule(verdicts: readonly Evidence[], rules: Rules): Ruling {
  const tracker = new RuleTracker(rules);
  const observed: Finding[] = [];
  for (const verdict of verdicts) {
    const finding = tracker.take(verdict);
    if (finding?.action === "observe") observed.push(finding);
    if (tracker.violation) break;
  }
  const violation = tracker.violation;
  return { action: actionOf(violation, observed), violation, observed };
}

export function actionOf(violation: Finding | null, observed: readonly Finding[]): Ruling["action"] {
  return violation ? "block" : observed.length > 0 ? "observe" : "pass";
}
