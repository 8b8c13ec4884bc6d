import { ClosedError } from "../errors.js";
import { ModerationViolation } from "../gate/violation.js";
import type { Guard } from "../guard.js";
import type { Decision } from "../moderation/decision.js";
import { severityOf } from "../moderation/labels.js";
import { type Policy, type PolicyData, resolvePolicy } from "../moderation/policy.js";
import { Reviewer } from "../moderation/reviewer.js";
import { type Finding, rulePrompt, turnsInScope } from "../moderation/ruling.js";
import type { GuardStream } from "../moderation/stream.js";
import type { TurnVerdict, Verdict } from "../moderation/verdict.js";
import type { Message } from "../tokenizer/chat-template/messages.js";
import { ClearText } from "./clear-text.js";
import type { ScanOptions } from "./commands/scan.js";
import { Feeding } from "./feeding.js";
import { interruptSignal } from "./interrupt.js";
import { POLICY_HINT, readJsonFile } from "./json-file.js";
import { readMessages } from "./messages-file.js";
import { loadModel } from "./model-options.js";
import { batchOf } from "./pace-options.js";
import { createReport, type Latency, type Report } from "./report.js";
import { createTerminal } from "./terminal.js";

const FLAGGED = 3;
const FAILED = 1;
/** Chunks under way before reading waits: the guard never falls behind unboundedly. */
const MAX_CHUNKS_IN_FLIGHT = 64;

/** Judges what arrives on standard input; what it comes to is in `process.exitCode`. */
export async function scan(options: ScanOptions): Promise<void> {
  const signal = interruptSignal();
  // Until all is judged: whoever stops reading before must not be told that all is well.
  if (options.failOn || options.policy || options.stop) process.exitCode = FAILED;
  const messages = await readMessages(options);
  const data =
    options.policy === undefined
      ? undefined
      : ((await readJsonFile(options.policy, "POLICY", POLICY_HINT)) as PolicyData);
  const guard = await loadModel(options, { maxStreams: 1, signal });
  signal.addEventListener("abort", () => process.stdin.destroy());
  const report = openReport(options);
  try {
    const found = await judge(guard, messages, data, { ...options, report, signal });
    process.exitCode = found ? FLAGGED : 0;
  } catch (error) {
    report.interrupted();
    if (error instanceof ModerationViolation) {
      // Whoever writes the response finds the pipe closed, and ends.
      process.stdin.destroy();
      process.exitCode = FLAGGED;
      return;
    }
    // Ctrl-C has its own exit code; there is nothing to explain.
    if (!(signal.aborted && error instanceof ClosedError)) throw error;
  } finally {
    await guard.close();
  }
}

/** Where nobody looks on, `--stop` is a filter: the text goes on as it came. */
function openReport({ jsonl, stop }: ScanOptions): Report {
  const terminal = createTerminal(process.stdout);
  const shown = terminal.interactive || terminal.colors.isColorSupported;
  return createReport(jsonl ? "jsonl" : stop && !shown ? "filter" : "text", process.stdout, terminal);
}

/**
 * Judges the conversation, then what arrives. Says whether something was found.
 *
 * @throws {ModerationViolation} where the policy blocks and `stop` is set
 */
async function judge(
  guard: Guard,
  messages: readonly Message[],
  data: PolicyData | undefined,
  { report, signal, ...options }: ScanOptions & { report: Report; signal: AbortSignal },
): Promise<boolean> {
  const enforced = data !== undefined || options.stop === true;
  const policy = resolvePolicy(data, guard.labels);
  const { reasoning, overflow } = options;
  const { scope } = policy.prompt;
  const stream = guard.stream({
    ...{ messages, reasoning, overflow, scope, signal },
    closely: overflow === "slide",
  });
  const judgesPrompt = options.prompt !== undefined || options.messages !== undefined;
  const prompt = judgesPrompt ? await stream.prompt : null;
  if (prompt) report.prompt(prompt);
  const scan = new Scan(stream, report, options, enforced ? policy : null);
  if (judgesPrompt) scan.rule(await stream.turns);
  const batch = batchOf(options);
  const feeding = new Feeding(stream, {
    batch,
    mostInFlight: enforced || batch ? 1 : MAX_CHUNKS_IN_FLIGHT,
    onChunk: (chunk) => scan.push(chunk),
    onVerdicts: (verdicts, elapsed) => scan.take(verdicts, elapsed),
  });
  const broken = await feeding.all(options.input);
  scan.end();
  if (broken) throw broken.error;
  const decision = await stream.end();
  report.end(decision, summarize(scan.latency), stream);
  const turns = judgesPrompt ? turnsInScope(await stream.turns, scope) : [];
  const met = options.failOn !== undefined && isMet(options.failOn, turns, decision);
  return scan.hasBlocked || met;
}

/** Shows what comes of a stream, and holds it against a policy. */
class Scan {
  readonly #stream: GuardStream;
  readonly #report: Report;
  readonly #options: Pick<ScanOptions, "stop" | "jsonl" | "release">;
  readonly #policy: Policy | null;
  readonly #reviewer: Reviewer | null;
  readonly #clear: ClearText | null;
  #blocked = false;
  /** Milliseconds, of each token. */
  readonly latency: number[] = [];

  /** @param policy null: nothing is ruled on */
  constructor(
    stream: GuardStream,
    report: Report,
    options: Pick<ScanOptions, "stop" | "jsonl" | "release">,
    policy: Policy | null,
  ) {
    this.#stream = stream;
    this.#report = report;
    this.#options = options;
    this.#policy = policy;
    this.#reviewer = policy && new Reviewer(policy.response);
    this.#clear = options.stop ? new ClearText(report) : null;
  }

  /** Whether the policy has blocked anything. */
  get hasBlocked(): boolean {
    return this.#blocked || Boolean(this.#reviewer?.violation);
  }

  /** Rules on the prompt. @throws {ModerationViolation} where that is to stop it */
  rule(turns: readonly TurnVerdict[]): void {
    const violation = this.#policy && rulePrompt(turns, this.#policy).violation;
    this.#blocked = violation !== null;
    this.#block(violation);
  }

  /** Takes what is about to be judged. */
  push(chunk: string | number[]): void {
    this.#clear?.push(chunk);
  }

  /**
   * @param elapsed milliseconds from a chunk to these; null: the text's end has settled them
   * @throws {ModerationViolation} where that is to stop it
   */
  take(verdicts: Verdict[], elapsed: number | null): void {
    if (elapsed !== null) for (const _ of verdicts) this.latency.push(elapsed);
    const [clear, reviewer] = [this.#clear, this.#reviewer];
    const judge = (verdict: Verdict) => clear?.judge(verdict) ?? true;
    const review = reviewer?.review(verdicts, this.#stream.settled, judge);
    const ahead = this.#options.release === "judged" ? reviewer?.likelyClear : [];
    if (reviewer) clear?.show(reviewer.clear, ahead);
    this.#block(review?.flag ?? null);
    if (!this.#options.stop || this.#options.jsonl) this.#report.tokens(verdicts);
  }

  /** Shows what is left. */
  end(): void {
    this.#clear?.end();
  }

  #block(finding: Finding | null): void {
    if (!finding) return;
    this.#report.violation(finding);
    if (this.#options.stop) throw new ModerationViolation(finding, null);
  }
}

function isMet(failOn: "unsafe" | "controversial", turns: Verdict[], decision: Decision): boolean {
  const found = turns.map(({ risk }) => severityOf(risk));
  if (failOn === "unsafe") return found.includes("unsafe") || decision.loose.flagged;
  return found.some((severity) => severity !== "safe") || decision.strict.flagged;
}

function summarize(latency: number[]): Latency {
  const sorted = latency.sort((a, b) => a - b);
  const at = (share: number) => Number((sorted[Math.ceil(share * sorted.length) - 1] ?? 0).toFixed(3));
  return { p50: at(0.5), p99: at(0.99) };
}
