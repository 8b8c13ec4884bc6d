import { ClosedError } from "../errors.js";
import { Batches, type BatchOptions } from "../gate/batches.js";
import { ModerationViolation } from "../gate/violation.js";
import type { Guard } from "../guard.js";
import type { Decision } from "../moderation/decision.js";
import { severityOf } from "../moderation/labels.js";
import { type PolicyData, resolvePolicy } from "../moderation/policy.js";
import { Reviewer } from "../moderation/reviewer.js";
import { type Finding, rulePrompt, turnsInScope } from "../moderation/ruling.js";
import type { GuardStream } from "../moderation/stream.js";
import type { Verdict } from "../moderation/verdict.js";
import type { Message } from "../tokenizer/chat-template/messages.js";
import { ClearText } from "./clear-text.js";
import type { ScanOptions } from "./commands/scan.js";
import { readInput } from "./input.js";
import type { InputKind } from "./input-kinds.js";
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
  const stream = guard.stream({
    messages,
    reasoning,
    overflow,
    closely: overflow === "slide",
    scope: policy.prompt.scope,
    signal,
  });
  const judgesPrompt = options.prompt !== undefined || options.messages !== undefined;
  const prompt = judgesPrompt ? await stream.prompt : null;
  if (prompt) report.prompt(prompt);
  const block = (finding: Finding | null) => {
    if (!finding) return;
    report.violation(finding);
    if (options.stop) throw new ModerationViolation(finding, null);
  };
  const blocked = enforced && judgesPrompt ? rulePrompt(await stream.turns, policy).violation : null;
  block(blocked);
  const latency: number[] = [];
  const reviewer = enforced ? new Reviewer(policy.response) : null;
  const clear = options.stop ? new ClearText(report) : null;
  const take = (verdicts: Verdict[]) => {
    const review = reviewer?.review(verdicts, stream.settled, (verdict) => clear?.judge(verdict) ?? true);
    if (reviewer) clear?.show(reviewer.clear, options.release === "judged" ? reviewer.likelyClear : []);
    block(review?.flag ?? null);
    if (!options.stop || options.jsonl) report.tokens(verdicts);
  };
  const batch = batchOf(options);
  const feeding = { batch, mostInFlight: enforced || batch ? 1 : MAX_CHUNKS_IN_FLIGHT };
  const broken = await feed(stream, options.input, feeding, {
    onChunk: (chunk) => clear?.push(chunk),
    onVerdicts(verdicts, elapsed) {
      for (let i = 0; i < verdicts.length && elapsed !== null; i++) latency.push(elapsed);
      take(verdicts);
    },
  });
  clear?.end();
  if (broken) throw broken.error;
  const decision = await stream.end();
  report.end(decision, summarize(latency), stream);
  const turns = judgesPrompt ? turnsInScope(await stream.turns, policy.prompt.scope) : [];
  const met = options.failOn !== undefined && isMet(options.failOn, turns, decision);
  return Boolean(blocked || reviewer?.violation) || met;
}

/** Feeds a stream from standard input. Returns what ended the input in place of its end: what came before counts. */
async function feed(
  stream: GuardStream,
  input: InputKind,
  { batch, mostInFlight }: { batch: BatchOptions | undefined; mostInFlight: number },
  {
    onChunk,
    onVerdicts,
  }: {
    onChunk: (chunk: string | number[]) => void;
    /** `elapsedMs` is null of what the text's end alone has settled. */
    onVerdicts: (verdicts: Verdict[], elapsedMs: number | null) => void;
  },
): Promise<{ error: unknown } | null> {
  const inFlight = new Set<Promise<void>>();
  let failure: unknown;
  let broken: { error: unknown } | null = null;
  /** When the first chunk came of those that wait in a batch. */
  let since: number | null = null;
  const batches = new Batches(stream, batch, () => void judge("", []));
  const judge = (text: string, ids: readonly number[]): void => {
    const started = since ?? performance.now();
    const done = batches
      .push(text, ids, false)
      .then((verdicts) => {
        since = batches.waiting > 0 ? started : null;
        onVerdicts(verdicts, performance.now() - started);
      })
      .catch((error) => {
        failure ??= error;
        process.stdin.destroy();
      })
      .finally(() => inFlight.delete(done));
    inFlight.add(done);
  };
  try {
    for await (const chunk of readInput(input)) {
      if (failure) break;
      onChunk(chunk);
      judge(typeof chunk === "string" ? chunk : "", typeof chunk === "string" ? [] : chunk);
      while (inFlight.size >= mostInFlight) await Promise.race(inFlight);
    }
  } catch (error) {
    broken = { error };
  }
  await Promise.all(inFlight);
  if (!failure) onVerdicts(await batches.settle(), since === null ? null : performance.now() - since);
  if (failure) throw failure;
  return broken;
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
