import { InputError } from "../errors.js";
import type { GuardConfig } from "../model/config.js";
import { parseJson } from "../validation/json.js";
import { type Severity, severityOf } from "./labels.js";
import { checked, checkRules, type Fields, record, replacements, VALUES } from "./policy-checks.js";

/** What happens to what counts: nothing, a note, or an end of it. */
export type Action = "ignore" | "observe" | "block";

/** strict: controversial counts as unsafe; loose: it counts as safe. */
export type Strictness = "strict" | "loose";

/**
 * What of a conversation is ruled on before the answer. turn: every user turn since the last assistant message.
 * conversation: every message.
 */
export type PromptScope = "turn" | "conversation";

/** What a category's tokens get. Named alone, it is the action. */
export type CategoryData = Action | { action?: Action; threshold?: number };

/** Rules as one writes them down; what is left out is inherited, at last from `DEFAULT_POLICY`. */
export interface RulesData {
  /** Default "strict". */
  reading?: Strictness;
  /** Of categories that `categories` does not name. Default "block". */
  action?: Action;
  /**
   * Probability (0 to 1) from which a token counts as a risk, by label: `{ "Unsafe": 0.8 }`. A label without one
   * counts where it is the most likely.
   */
  thresholds?: Record<string, number>;
  /**
   * Probability (0 to 1) from which all risks that the reading counts count together: read strictly, unsafe and
   * controversial. In place of being the most likely label; labels with a threshold of their own go by that as well.
   */
  threshold?: number;
  /** By label. With a threshold, tokens of that category count from that probability of it on. */
  categories?: Record<string, CategoryData>;
}

/** A policy as plain data, from JSON or code. The rules at its top are those of prompt and response alike. */
export interface PolicyData extends RulesData {
  /** Tokens in a row that must count before anything happens, from 1. Default 2. Responses only. */
  debounce?: number;
  /** `scope`: what of the conversation counts. Default "turn". */
  prompt?: RulesData & { scope?: PromptScope };
  /** `refusal`: what an answer that refuses gets, of a guard that says so (Gen). Default "ignore". */
  response?: RulesData & { debounce?: number; refusal?: Action };
  /** Images, audio and files, which the model cannot read. Default "block". */
  attachments?: "block" | "ignore";
  /**
   * What a request or an answer may carry as text and the guard has no way to judge, a field that it does not know for
   * one: "refuse" it, or let it "pass", counted and logged. Default "refuse".
   */
  unjudged?: "refuse" | "pass";
  /**
   * Calls of tools in an answer that goes through the proxy or the AI SDK's middleware, their names and what they are called with: "judge" them as part
   * of the answer, let them "pass" unjudged, or "refuse" an answer that has any. Default "pass".
   */
  tools?: "judge" | "pass" | "refuse";
  /**
   * What tools have answered, in a request to the proxy: "judge" it as a turn of the conversation, or let it "pass"
   * unjudged, counted and logged. Default "judge".
   */
  toolResults?: "judge" | "pass";
  /** Whether text passes unjudged once the guard has failed. Default false. */
  failOpen?: boolean;
  /**
   * Text with which the proxy answers in the model's place where prompt or response is stopped: one for all, or one a
   * category by its label, with "default" for those that are not named. Default: none.
   */
  replacement?: string | Readonly<Record<string, string>>;
}

/** One risk label that counts, of those that do. */
export interface RiskRule {
  label: string;
  /** Place in the checkpoint's map, and in `Verdict.probabilities.risk`. */
  index: number;
  severity: Exclude<Severity, "safe">;
  /** Null: it counts where it is the most likely label. */
  threshold: number | null;
}

export interface CategoryRule {
  label: string;
  action: Action;
  /** Probability of the category from which it counts; 0 where the policy names none. */
  threshold: number;
}

/** Rules for one part of a conversation, checked against the model's labels. */
export interface Rules {
  part: "prompt" | "response";
  reading: Strictness;
  debounce: number;
  /** Probability of all `risks` together from which they count; null where the policy names none. */
  threshold: number | null;
  /** Worst first. */
  risks: RiskRule[];
  /** One for each label of the checkpoint's map, in its order. */
  categories: CategoryRule[];
}

/** A policy that is complete and fits the model. Plain data. */
export interface Policy {
  prompt: Rules & { scope: PromptScope };
  response: Rules & { refusal: Action };
  attachments: "block" | "ignore";
  unjudged: "refuse" | "pass";
  tools: "judge" | "pass" | "refuse";
  toolResults: "judge" | "pass";
  failOpen: boolean;
  /** By category, and "default". */
  replacement: Readonly<Record<string, string>>;
}

/** Strict, two tokens in a row (Qwen3Guard technical report, section 4.4), every category blocks, failures block. */
export const DEFAULT_POLICY = {
  reading: "strict",
  action: "block",
  debounce: 2,
  prompt: { scope: "turn" },
  attachments: "block",
  unjudged: "refuse",
  tools: "pass",
  toolResults: "judge",
  failOpen: false,
} as const satisfies PolicyData;

const RULES_FIELDS = ["reading", "action", "threshold", "thresholds", "categories"];
const PROMPT_FIELDS = [...RULES_FIELDS, "scope"];
const RESPONSE_FIELDS = [...RULES_FIELDS, "debounce", "refusal"];
/** Names of a policy's fields, as it is written. */
export const POLICY_FIELDS: readonly string[] = [
  ...RULES_FIELDS,
  "debounce",
  "prompt",
  "response",
  "attachments",
  "unjudged",
  "tools",
  "toolResults",
  "failOpen",
  "replacement",
];

/**
 * Completes a policy and checks it against the labels of a model.
 *
 * @param data a PolicyData, from code or from JSON
 * @throws {InputError} POLICY_INVALID: an unknown field or label, a value of the wrong kind; the message says where
 */
export function resolvePolicy(data: unknown, labels: GuardConfig["labels"]): Policy {
  const top = record(data ?? {}, "the policy", POLICY_FIELDS);
  checkRules(
    top,
    "",
    [...labels.promptRisk, ...labels.responseRisk],
    [...labels.promptCategory, ...labels.responseCategory],
  );
  const prompt = record(top.prompt ?? {}, "prompt", PROMPT_FIELDS);
  checkRules(prompt, "prompt.", labels.promptRisk, labels.promptCategory);
  const response = record(top.response ?? {}, "response", RESPONSE_FIELDS);
  checkRules(response, "response.", labels.responseRisk, labels.responseCategory);
  const value = <K extends keyof typeof VALUES & keyof typeof DEFAULT_POLICY & keyof Policy>(field: K) =>
    checked<Policy[K]>(top[field] ?? DEFAULT_POLICY[field], field, VALUES[field]);
  return {
    prompt: {
      part: "prompt",
      // A prompt has a single verdict: there is no row of tokens to wait for.
      debounce: 1,
      scope: checked(prompt.scope ?? DEFAULT_POLICY.prompt.scope, "prompt.scope", VALUES.scope),
      ...resolveRules(top, prompt, labels.promptRisk, labels.promptCategory),
    },
    response: {
      part: "response",
      debounce: (response.debounce ?? top.debounce ?? DEFAULT_POLICY.debounce) as number,
      refusal: checked(response.refusal ?? "ignore", "response.refusal", VALUES.refusal),
      ...resolveRules(top, response, labels.responseRisk, labels.responseCategory),
    },
    attachments: value("attachments"),
    unjudged: value("unjudged"),
    tools: value("tools"),
    toolResults: value("toolResults"),
    failOpen: value("failOpen"),
    replacement: replacements(top.replacement ?? {}, [...labels.promptCategory, ...labels.responseCategory]),
  };
}

/** What answers in the model's place where a category was stopped; null: nothing does. */
export function replacementOf({ replacement }: Policy, category: string): string | null {
  const named = [category, "default"].find((name) => Object.hasOwn(replacement, name));
  return named === undefined ? null : replacement[named];
}

/**
 * Reads a policy written as JSON, for example a file's content. It is checked by `resolvePolicy`, where it is used.
 *
 * @param source the file's name, for the message
 * @throws {InputError} POLICY_INVALID
 */
export function parsePolicy(json: string, source: string): PolicyData {
  try {
    // Editors on Windows put a byte order mark before it.
    return parseJson(json.replace(/^\ufeff/, "")) as PolicyData;
  } catch (cause) {
    throw new InputError("POLICY_INVALID", `${source} is not JSON: ${(cause as Error).message}.`, { cause });
  }
}

function resolveRules(
  top: Fields,
  own: Fields,
  risks: readonly string[],
  categories: readonly string[],
): Omit<Rules, "part" | "debounce"> {
  const reading = (own.reading ?? top.reading ?? DEFAULT_POLICY.reading) as Strictness;
  const action = (own.action ?? top.action ?? DEFAULT_POLICY.action) as Action;
  const inherited = (field: "thresholds" | "categories", label: string): unknown => {
    for (const rules of [own, top]) {
      const values = rules[field] as Fields | undefined;
      if (values && Object.hasOwn(values, label)) return values[label];
    }
    return undefined;
  };
  const counting: RiskRule[] = [];
  for (const [index, label] of risks.entries()) {
    const severity = severityOf(label);
    if (severity === "safe" || (reading === "loose" && severity === "controversial")) continue;
    const threshold = (inherited("thresholds", label) as number | undefined) ?? null;
    counting.push({ label, index, severity, threshold });
  }
  counting.sort((a, b) => Number(a.severity !== "unsafe") - Number(b.severity !== "unsafe"));
  return {
    reading,
    threshold: (own.threshold ?? top.threshold ?? null) as number | null,
    risks: counting,
    categories: categories.map((label) => {
      const given = inherited("categories", label) as CategoryData | undefined;
      const rule = typeof given === "string" ? { action: given } : given;
      return { label, action: rule?.action ?? action, threshold: rule?.threshold ?? 0 };
    }),
  };
}
