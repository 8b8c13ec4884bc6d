import { CheckpointError } from "../../errors.js";
import { type GenLabels, REFUSALS } from "../../tokenizer/chat-template/gen-form.js";
import type { Tokenizer } from "../../tokenizer/tokenizer.js";

/** What a Gen guard calls no category. */
export const NONE = "None";

/** Names of which an answer has one at a place, each with the ids of the answer from its beginning up to the name's end. */
export interface Choice {
  names: readonly string[];
  answers: readonly (readonly number[])[];
}

/** An answer as it stands. What was not asked for is undefined. */
export interface AnswerText {
  risk: string;
  category?: string;
  refusal?: string;
}

/**
 * The answers that a Gen guard was trained to write, in ids: "Safety: Unsafe\nCategories: Violent\nRefusal: No", the last
 * line for responses alone.
 */
export class AnswerForms {
  readonly #tokenizer: Tokenizer;
  /** What an answer begins with, and what stands before the refusal. */
  readonly riskLine: readonly number[];
  readonly refusalLine: readonly number[];
  /** The most tokens that an answer takes. */
  readonly longest: number;

  /** @throws {CheckpointError} TOKENIZER_UNSUPPORTED: the lines of an answer share tokens */
  constructor(
    tokenizer: Tokenizer,
    { promptRisk, promptCategory, responseRisk, responseCategory }: GenLabels,
  ) {
    this.#tokenizer = tokenizer;
    this.riskLine = tokenizer.encode("Safety:");
    this.refusalLine = tokenizer.encode("\nRefusal:");
    const risks = [...new Set([...promptRisk, ...responseRisk])];
    const categories = [...new Set([...promptCategory, ...responseCategory, NONE])];
    let longest = 0;
    for (const risk of risks) {
      for (const category of categories) {
        const ids = this.ids({ risk, category, refusal: REFUSALS[0] });
        const whole = tokenizer.encode(textOf({ risk, category, refusal: REFUSALS[0] }));
        if (ids.length !== whole.length || ids.some((id, i) => id !== whole[i])) {
          throw new CheckpointError(
            "TOKENIZER_UNSUPPORTED",
            "In this tokenizer a name of the guard's answer shares a token with the line after it, so its probability " +
              "cannot be read. Use the tokenizer that came with the checkpoint.",
          );
        }
        longest = Math.max(longest, ids.length);
      }
    }
    requireApart(this.risks(risks));
    requireApart(this.categories(risks[0], categories.slice(0, -1)));
    this.longest = longest;
  }

  /** Ids of an answer, as a model writes them: it never joins what two lines of it hold. */
  ids({ risk, category, refusal }: AnswerText): number[] {
    const pieces = ["Safety:", ` ${risk}`];
    if (category !== undefined) pieces.push("\nCategories:", ` ${category}`);
    if (refusal !== undefined) pieces.push("\nRefusal:", ` ${refusal}`);
    return pieces.flatMap((piece) => this.#tokenizer.encode(piece));
  }

  risks(names: readonly string[]): Choice {
    return { names, answers: names.map((risk) => this.ids({ risk })) };
  }

  /** @param labels the categories; "None" is one more, at the end */
  categories(risk: string, labels: readonly string[]): Choice {
    const names = [...labels, NONE];
    return { names, answers: names.map((category) => this.ids({ risk, category })) };
  }

  refusals(risk: string, category: string = NONE): Choice {
    return { names: REFUSALS, answers: REFUSALS.map((refusal) => this.ids({ risk, category, refusal })) };
  }
}

/** A name that others go on from is not told from them by its tokens. @throws {CheckpointError} LABELS_INVALID */
function requireApart({ names, answers }: Choice): void {
  answers.forEach((ids, i) => {
    const longer = answers.findIndex((other, j) => i !== j && ids.every((id, k) => other[k] === id));
    if (longer === -1) return;
    throw new CheckpointError(
      "LABELS_INVALID",
      `The chat template has the names ${JSON.stringify(names[i])} and ${JSON.stringify(names[longer])}, and one begins ` +
        "with the other. Use the template that came with the checkpoint.",
    );
  });
}

/** An answer in the guard's own words. */
export function textOf({ risk, category = NONE, refusal }: AnswerText): string {
  const lines = [`Safety: ${risk}`, `Categories: ${category}`];
  return [...lines, ...(refusal === undefined ? [] : [`Refusal: ${refusal}`])].join("\n");
}
