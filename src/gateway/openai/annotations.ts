import { ModerationViolation } from "../../gate/violation.js";
import type { GuardConfig } from "../../model/config.js";
import type { Json } from "../../validation/json.js";
import { type ScoreKeeper, type Scores, scoresOf } from "../answer/scores.js";
import type { RequestError } from "../api-error.js";

/** What the guard says of a request and its answer, for those who read more than text: as OpenAI or Azure tell it. */
export interface Annotations {
  style: "openai" | "azure";
  /** One a choice. */
  keepers: readonly ScoreKeeper[];
}

const MODEL = "qwen3guard";
/** OpenAI's names for what the released checkpoints have a category for. */
const ALIASES: Record<string, string> = {
  Violent: "violence",
  "Sexual Content or Sexual Acts": "sexual",
  "Suicide & Self-Harm": "self-harm",
  "Non-violent Illegal Acts": "illicit",
};
/** Azure's. */
const AZURE: Record<string, string> = {
  Violent: "violence",
  "Sexual Content or Sexual Acts": "sexual",
  "Suicide & Self-Harm": "self_harm",
};
/** Scores from which Azure's severities go up. */
const SEVERITIES: [least: number, name: string][] = [
  [0.75, "high"],
  [0.5, "medium"],
  [0.25, "low"],
];

/** Categories by the checkpoint's names, and by OpenAI's where they mean the same. */
export function categoriesOf({ scores, flagged }: Pick<Scores, "scores" | "flagged">): {
  categories: Record<string, boolean>;
  category_scores: Record<string, number>;
} {
  const categories: Record<string, boolean> = {};
  const category_scores: Record<string, number> = {};
  for (const [label, score] of Object.entries(scores)) {
    for (const name of [label, ALIASES[label]]) {
      if (name === undefined) continue;
      categories[name] = flagged.has(label);
      category_scores[name] = score;
    }
  }
  return { categories, category_scores };
}

/** One of OpenAI's results. */
function resultOf(scores: Scores): Json {
  const told = categoriesOf(scores);
  const types = Object.fromEntries(Object.keys(told.categories).map((name) => [name, ["text"]]));
  return {
    type: "moderation_result",
    model: MODEL,
    flagged: scores.flagged.size > 0,
    ...told,
    category_applied_input_types: types,
  };
}

const UNJUDGED = { type: "error", code: "guard_failed", message: "The guard gave no verdict." };

/** OpenAI's `moderation` of chat completions: a result a choice. */
export function moderationOf({ keepers }: Annotations): Json {
  const side = (all: (Scores | null)[]): Json =>
    all.includes(null)
      ? UNJUDGED
      : {
          type: "moderation_results",
          model: MODEL,
          results: all.flatMap((own) => (own ? [resultOf(own)] : [])),
        };
  return { input: side([keepers[0].prompt]), output: side(keepers.map(({ answer }) => answer)) };
}

/** OpenAI's `moderation` of a response: one result a side. */
export function responseModeration({ keepers: [{ prompt, answer }] }: Annotations): Json {
  return { input: prompt ? resultOf(prompt) : UNJUDGED, output: answer ? resultOf(answer) : UNJUDGED };
}

/** Azure's `prompt_filter_results`. */
export function promptFilters({ keepers }: Annotations): Json[] {
  return [{ prompt_index: 0, content_filter_results: filtersOf(keepers[0].prompt) }];
}

/** What Azure tells of a choice beside its text. Offsets are UTF-16 units of what the guard read. */
export function choiceFilters({ answer, length }: ScoreKeeper): Json {
  return {
    content_filter_results: filtersOf(answer),
    content_filter_offsets: { check_offset: length, start_offset: 0, end_offset: length },
  };
}

/** Azure's filters, by category: what was found, how grave, and whether it was stopped. */
function filtersOf(scores: Scores | null): Json {
  if (!scores) return { error: { code: "content_filter_error", message: UNJUDGED.message } };
  const { flagged, stopped } = scores;
  return Object.fromEntries(
    Object.entries(scores.scores).map(([label, score]) => {
      const filtered = stopped && flagged.has(label);
      if (label === "Jailbreak") return ["jailbreak", { filtered, detected: flagged.has(label) }];
      const severity = SEVERITIES.find(([least]) => score >= least)?.[1] ?? "safe";
      return [AZURE[label] ?? snakeCase(label), { filtered, severity }];
    }),
  );
}

/** Tells of a blocked prompt as Azure does, beside what OpenAI's error says. */
export function withInnerError(
  failure: RequestError,
  { promptRisk, promptCategory }: GuardConfig["labels"],
): void {
  const { cause, body } = failure;
  if (!(cause instanceof ModerationViolation) || cause.part !== "prompt") return;
  const probable = scoresOf(cause.probabilities, promptRisk);
  const scores = Object.fromEntries(promptCategory.map((label, i) => [label, probable[i]]));
  const content_filter_result = filtersOf({ scores, flagged: new Set([cause.category]), stopped: true });
  body.error.innererror = { code: "ResponsibleAIPolicyViolation", content_filter_result };
}

function snakeCase(label: string): string {
  return label
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "_")
    .replace(/^_+|_+$/g, "");
}
