import { InputError } from "../errors.js";
import type { Decision } from "../moderation/decision.js";
import { severityOf } from "../moderation/labels.js";
import type { Finding } from "../moderation/ruling.js";
import type { GuardStream } from "../moderation/stream.js";
import type { Verdict } from "../moderation/verdict.js";
import { type Terminal, visible, visibleLine } from "./terminal.js";

/** Milliseconds from a chunk's arrival to its verdicts. */
export interface Latency {
  p50: number;
  p99: number;
}

/** Tokens of the conversation before the response, and of these those that the guard had read before. */
export type PromptTokens = Pick<GuardStream, "promptTokens" | "reusedTokens">;

/** Shows a scan as it goes. */
export interface Report {
  prompt(verdict: Verdict): void;
  tokens(verdicts: Verdict[]): void;
  /**
   * Tokens that the policy lets pass, where only those are shown, and the source's own text of them.
   *
   * @throws {InputError} CONTROL_CHARACTER
   */
  clear(verdicts: Verdict[], text: string): void;
  /** The policy blocks. */
  violation(finding: Finding): void;
  end(decision: Decision, latency: Latency, prompt: PromptTokens): void;
  /** The scan failed or was stopped. */
  interrupted(): void;
}

/**
 * @param kind text for people, lines for programs; "filter" passes text on as it is, between what tells of it
 */
export function createReport(
  kind: "text" | "filter" | "jsonl",
  out: NodeJS.WritableStream,
  terminal: Terminal,
): Report {
  if (kind === "jsonl") return new JsonLines(out);
  return kind === "filter" ? new PlainText(out, terminal) : new ColouredText(out, terminal);
}

class JsonLines implements Report {
  readonly #out: NodeJS.WritableStream;

  constructor(out: NodeJS.WritableStream) {
    this.#out = out;
  }

  prompt({ text, provisional, probabilities, ...verdict }: Verdict): void {
    this.#write({ type: "prompt", ...verdict });
  }

  tokens(verdicts: Verdict[]): void {
    for (const { probabilities, ...verdict } of verdicts) this.#write({ type: "token", ...verdict });
  }

  /** Lines tell of every token as it is judged. */
  clear(): void {}

  violation({ probabilities, ...finding }: Finding): void {
    this.#write({ type: "violation", ...finding });
  }

  end(decision: Decision, latencyMs: Latency, { promptTokens, reusedTokens }: PromptTokens): void {
    const { risk, category, flaggedAt, tokens, strict, loose } = decision;
    const figures = { tokens, promptTokens, reusedTokens, strict, loose, latencyMs };
    this.#write({ type: "end", risk, category, flaggedAt, ...figures });
  }

  interrupted(): void {}

  #write(value: object): void {
    this.#out.write(`${JSON.stringify(value)}\n`);
  }
}

class ColouredText implements Report {
  readonly #out: NodeJS.WritableStream;
  readonly #colors: Terminal["colors"];
  /** Text of each token shown so far. */
  readonly #shown: string[] = [];
  /** The token shown last. */
  #before = "";
  /** Characters on the screen that revised tokens cover again, marks apart from their letters. */
  #covered = 0;

  constructor(out: NodeJS.WritableStream, { colors }: Terminal) {
    this.#out = out;
    this.#colors = colors;
  }

  prompt(verdict: Verdict): void {
    const share = percent(verdict.riskProbability);
    this.#out.write(
      `${this.#colors.bold("prompt")}    ${this.#label(verdict)} ${this.#colors.dim(share)}\n\n`,
    );
  }

  tokens(verdicts: Verdict[]): void {
    let line = "";
    for (const { index, text, risk } of verdicts) {
      if (index < this.#shown.length) this.#covered += apart(this.#shown.splice(index).join("")).length;
      this.#shown.push(text);
      const whole = this.#covered > 0 ? apart(text) : text;
      const fresh = whole.slice(this.#covered);
      this.#covered -= whole.length - fresh.length;
      if (fresh) line += this.#paint(visible(fresh, this.#before), risk);
      this.#before = text || this.#before;
    }
    if (line) this.#out.write(line);
  }

  clear(verdicts: Verdict[], _text: string): void {
    this.tokens(verdicts);
  }

  violation(finding: Finding): void {
    const { part, index, riskProbability } = finding;
    const where = part === "prompt" ? "the prompt" : `from token ${finding.from} to ${index}`;
    this.#out.write(
      `\n\n${this.#colors.bold("blocked")}   ${this.#label(finding)} ${this.#colors.dim(`${where}, ${percent(riskProbability)}`)}\n`,
    );
  }

  end(decision: Decision, { p50, p99 }: Latency, { promptTokens }: PromptTokens): void {
    const { flaggedAt, tokens } = decision;
    const { bold, dim } = this.#colors;
    const where = flaggedAt === null ? "" : dim(` from token ${flaggedAt}`);
    this.#out.write(
      `\n\n${bold("response")}  ${this.#label(decision)}${where}\n` +
        `${bold("tokens")}    ${tokens} ${dim(`behind ${promptTokens} of the prompt`)}\n` +
        `${bold("latency")}   ${p50.toFixed(2)} ms ${dim("p50")}  ${p99.toFixed(2)} ms ${dim("p99, from a chunk's arrival to its verdict")}\n`,
    );
  }

  interrupted(): void {
    if (this.#shown.length > 0) this.#out.write("\n");
  }

  #label({ risk, category }: { risk: string; category: string | null }): string {
    return this.#paint(visibleLine(category ? `${risk} (${category})` : risk), risk);
  }

  #paint(text: string, risk: string): string {
    const { green, yellow, red } = this.#colors;
    return { safe: green, controversial: yellow, unsafe: red }[severityOf(risk)](text);
  }
}

/** Shows a terminal another text than the one that stands there: what steers it, and what turns its direction. */
const STEERING = /\r(?!\n)|[^\P{Cc}\n\t\r]|[\u202d\u202e]/u;

/** The source's own text for the next program; what it might not show as the guard read it is refused. */
class PlainText extends ColouredText {
  readonly #out: NodeJS.WritableStream;
  /** A carriage return whose line feed may come yet. */
  #begun = "";

  constructor(out: NodeJS.WritableStream, terminal: Terminal) {
    super(out, terminal);
    this.#out = out;
  }

  override clear(_verdicts: Verdict[], text: string): void {
    const fresh = this.#begun + text;
    this.#begun = fresh.endsWith("\r") ? "\r" : "";
    this.#pass(fresh.slice(0, fresh.length - this.#begun.length));
  }

  override end(...all: Parameters<Report["end"]>): void {
    this.#pass(this.#begun);
    super.end(...all);
  }

  #pass(text: string): void {
    const found = STEERING.exec(text);
    this.#out.write(text.slice(0, found?.index));
    if (!found) return;
    throw new InputError(
      "CONTROL_CHARACTER",
      `The response holds a ${visible(found[0])}, with which a terminal may show another text than the one that was ` +
        "judged. Let scan write to the terminal itself or use --jsonl: both show such characters as escapes.",
    );
  }
}

/** A mark may come after its letter is shown: then it alone is fresh. */
function apart(text: string): string {
  return text.normalize("NFD");
}

function percent(probability: number): string {
  return `${(100 * probability).toFixed(1)} %`;
}
