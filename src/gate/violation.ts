import { GuardError } from "../errors.js";
import type { Finding } from "../moderation/ruling.js";

/** A stretch of the response as its source gave it, in UTF-16 units; for ids in tokens, and without text. */
export interface Span {
  start: number;
  end: number;
  text: string | null;
}

/** A prompt or response that the policy does not let pass. Code MODERATION_VIOLATION. */
export class ModerationViolation extends GuardError {
  readonly finding: Finding;
  /** What was flagged; null where that was the prompt. */
  readonly span: Span | null;
  /** How often the model had been asked to go on before; 0 in all modes but "regenerate". */
  readonly regenerations: number;

  constructor(finding: Finding, span: Span | null, regenerations = 0) {
    const { part, risk, category, index } = finding;
    super(
      "MODERATION_VIOLATION",
      part === "prompt"
        ? `The prompt was judged ${risk} (${category}).`
        : `The response was stopped at token ${index}, judged ${risk} (${category}).`,
    );
    this.finding = finding;
    this.span = span;
    this.regenerations = regenerations;
  }

  get part(): Finding["part"] {
    return this.finding.part;
  }

  get risk(): string {
    return this.finding.risk;
  }

  get category(): string {
    return this.finding.category;
  }

  get probabilities(): Finding["probabilities"] {
    return this.finding.probabilities;
  }

  /** Index of the token that made it so; for a prompt the place of its `<|im_end|>`. */
  get index(): number {
    return this.finding.index;
  }

  get rule(): Finding["rule"] {
    return this.finding.rule;
  }

  /** For logs and clients: everything but the text. */
  toJSON(): object {
    const { part, risk, riskProbability, category, categoryProbability, index, rule } = this.finding;
    const span = this.span && { start: this.span.start, end: this.span.end };
    const tried = this.regenerations > 0 && { regenerations: this.regenerations };
    return {
      ...{ code: this.code, part, risk, riskProbability, category, categoryProbability, index, span, rule },
      ...tried,
    };
  }
}
