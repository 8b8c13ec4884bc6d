import type { Logits } from "../engine/logits.js";
import type { GuardConfig } from "../model/config.js";
import { severityOf } from "./labels.js";

/** What the model says of one token, or of the prompt. */
export interface Verdict {
  /** Place among the response's tokens, from 0. For a prompt: the place of its `<|im_end|>` among the prefix's tokens. */
  index: number;
  tokenId: number;
  /**
   * The text this token completes, in NFC: joined, they are the response in NFC. Empty while a character's bytes are still
   * incomplete.
   */
  text: string;
  /** Label from the checkpoint's risk map, for example "Safe". */
  risk: string;
  /** Softmax probability of `risk`, 0 to 1. */
  riskProbability: number;
  /** Label from the checkpoint's category map; null where the risk is safe, since the model learnt none there. */
  category: string | null;
  /** Softmax probability of `category`; null where there is none. */
  categoryProbability: number | null;
  /** Softmax over all labels, in the order of the checkpoint's maps. */
  probabilities: { risk: number[]; category: number[] };
  /**
   * Whether later text could still change the token, and with it the verdict. That it no longer can, `stream.settled` says;
   * this stays as it was.
   */
  provisional: boolean;
}

/** What the prompt moderator says at the `<|im_end|>` that closes a turn of the conversation. */
export interface TurnVerdict extends Verdict {
  /** As the chat template writes it: a tool's answer is a turn of the user. "" where the turn has no beginning. */
  role: string;
  /** Whether there is nothing but white space in the turn. */
  empty: boolean;
  /**
   * Which of the conversation's turns, from 0. A turn that is judged in several windows has a verdict at the end of each:
   * their `index` is where the window ends.
   */
  turn: number;
  /** Counts whatever the policy's scope: see `Message.standing`. */
  standing?: true;
  /** It is one more on a turn that stands behind much else, and is of that turn by itself (`closely`). */
  alone?: true;
}

/** The verdicts on the turn that one of them is about: more than one where it was judged in several windows. */
export function verdictsOfTurn(
  turns: readonly TurnVerdict[],
  { index }: Pick<Verdict, "index">,
): TurnVerdict[] {
  const own = turns.find((verdict) => verdict.index === index);
  return turns.filter(({ turn }) => turn === own?.turn);
}

/** The worst of several verdicts on one text; of equally bad ones the most certain, of safe ones the least. */
export function worstOf<V extends Pick<Verdict, "risk" | "riskProbability">>(verdicts: readonly V[]): V {
  const gravity = ({ risk }: V) => ["safe", "controversial", "unsafe"].indexOf(severityOf(risk));
  const sureness = ({ risk, riskProbability }: V) =>
    severityOf(risk) === "safe" ? -riskProbability : riskProbability;
  return verdicts.reduce((worst, verdict) => {
    const graver = gravity(verdict) - gravity(worst) || sureness(verdict) - sureness(worst);
    return graver > 0 ? verdict : worst;
  });
}

/** The worst verdict on what is asked: the prompt's own, and those on what goes with each request of its conversation. */
export function worstAsked(prompt: Verdict, turns: readonly TurnVerdict[]): Verdict {
  return worstOf([prompt, ...turns.filter(({ standing }) => standing)]);
}

/** The judgement alone, without the token it is about. */
export type Judgement = Pick<
  Verdict,
  "risk" | "riskProbability" | "category" | "categoryProbability" | "probabilities"
>;

/** Reads the prompt moderator's logits of token `index` of a step. */
export function judgePrompt(logits: Logits, index: number, labels: GuardConfig["labels"]): Judgement {
  return judge(logits.promptRisk, logits.promptCategory, index, labels.promptRisk, labels.promptCategory);
}

/** Reads the response moderator's logits of token `index` of a step. */
export function judgeResponse(logits: Logits, index: number, labels: GuardConfig["labels"]): Judgement {
  return judge(
    logits.responseRisk,
    logits.responseCategory,
    index,
    labels.responseRisk,
    labels.responseCategory,
  );
}

function judge(
  riskLogits: Float32Array,
  categoryLogits: Float32Array,
  index: number,
  riskLabels: string[],
  categoryLabels: string[],
): Judgement {
  const risk = softmax(riskLogits, index * riskLabels.length, riskLabels.length);
  const category = softmax(categoryLogits, index * categoryLabels.length, categoryLabels.length);
  const topRisk = indexOfHighest(risk);
  const safe = severityOf(riskLabels[topRisk]) === "safe";
  const topCategory = indexOfHighest(category);
  return {
    risk: riskLabels[topRisk],
    riskProbability: risk[topRisk],
    category: safe ? null : categoryLabels[topCategory],
    categoryProbability: safe ? null : category[topCategory],
    probabilities: { risk, category },
  };
}

function softmax(logits: Float32Array, from: number, count: number): number[] {
  let highest = Number.NEGATIVE_INFINITY;
  for (let i = from; i < from + count; i++) highest = Math.max(highest, logits[i]);
  const result = new Array<number>(count);
  let sum = 0;
  for (let i = 0; i < count; i++) {
    result[i] = Math.exp(logits[from + i] - highest);
    sum += result[i];
  }
  for (let i = 0; i < count; i++) result[i] /= sum;
  return result;
}

/** The first of the highest values, as argmax in the reference. */
export function indexOfHighest(values: readonly number[]): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}
