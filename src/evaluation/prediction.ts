import type { Guard } from "../guard.js";
import { indexOfHighest, type Verdict } from "../moderation/verdict.js";
import type { Conversation } from "./conversation.js";
import type { EvaluationType, Row } from "./row.js";

/** What has to be the same for predictions to belong together. */
export interface Run {
  type: EvaluationType;
  reasoning: boolean;
  /** Hash of the checkpoint's files. */
  model: string;
  dtype: string;
}

/** Where a prediction comes from. */
export interface Origin {
  line: number;
  digest: string;
  run: Run;
}

/** What the guard says of a row; the `pred_` fields, `input_ids` and `split_idx_eval` as the official script has them. */
export interface Judgements {
  /** What a Gen guard says, in its own words; the other fields then have that one verdict. Absent of a stream guard. */
  pred_text?: string;
  /** Risk ids of the checkpoint's map: one for a prompt, one a position from `split_idx_eval` on for a response. */
  pred_risk_levels: number[];
  /** Names from the checkpoint's category map, also where the risk is safe and they mean nothing. */
  pred_categories: string[];
  /** Softmax probability of each risk level, to 6 digits. */
  pred_risk_prob: number[];
  /** The whole templated conversation. */
  input_ids: number[];
  /** The first position judged. */
  split_idx_eval: number;
}

/** A line of the predictions file: the row's own fields, and on top of them its origin, label and judgements. */
export type Prediction = { qwen3guard: Origin; label: string } & Judgements & { [field: string]: unknown };

export function createPrediction(row: Row, run: Run, judgements: Judgements): Prediction {
  const { label } = row.annotation;
  return {
    ...row.data,
    qwen3guard: { line: row.line, digest: row.digest, run },
    label: label[0].toUpperCase() + label.slice(1),
    ...judgements,
  };
}

/**
 * Judges a templated conversation.
 *
 * @throws {NumericError} LOGITS_NOT_FINITE
 * @throws {ClosedError} GUARD_CLOSED, STREAM_ABORTED
 */
export async function judge(
  guard: Guard,
  { ids, start }: Conversation,
  type: EvaluationType,
  signal?: AbortSignal,
): Promise<Judgements> {
  const { labels } = guard;
  const prefix = type === "prompt" ? ids.slice(0, start + 1) : ids.slice(0, start);
  const stream = guard.stream({ promptIds: prefix, signal });
  try {
    const verdicts =
      type === "prompt" ? [(await stream.prompt) as Verdict] : await stream.push(ids.slice(start));
    const risks = type === "prompt" ? labels.promptRisk : labels.responseRisk;
    const categories = type === "prompt" ? labels.promptCategory : labels.responseCategory;
    return {
      pred_risk_levels: verdicts.map(({ risk }) => risks.indexOf(risk)),
      pred_categories: verdicts.map(
        ({ probabilities }) => categories[indexOfHighest(probabilities.category)],
      ),
      pred_risk_prob: verdicts.map(({ riskProbability }) => Number(riskProbability.toFixed(6))),
      input_ids: ids,
      split_idx_eval: start,
    };
  } finally {
    stream.close();
  }
}
