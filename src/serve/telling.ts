import { ClosedError, type GuardError } from "../errors.js";
import { toRequestError } from "../gateway/api-error.js";
import type { RequestRecord } from "../gateway/record/record.js";
import type { Told } from "../gateway/record/watcher.js";
import { type Classification, findingOf } from "../moderation/classification.js";
import type { Decision } from "../moderation/decision.js";
import type { Policy } from "../moderation/policy.js";
import type { Ruling } from "../moderation/ruling.js";
import type { GuardStream } from "../moderation/stream.js";
import type { Judgement } from "../moderation/verdict.js";
import type { Message } from "../tokenizer/chat-template/messages.js";

const ACTIONS = { pass: "passed", observe: "observed", block: "stopped" } as const;

/** HTTP's status of a connection that has become a socket. */
const SWITCHED = 101;

/** What is not known, or not so. */
const NOTHING = { index: null, tokens: null, finding: null, error: null };

/** Tells those who watch a request of a classification that its client is given. */
export function tellClassification(
  record: RequestRecord,
  index: number,
  { messages, found, policy, input }: ClassifiedText,
): void {
  const { part, ruling, flaggedAt, risk, riskProbability, category, categoryProbability, probabilities } =
    found;
  if (part === "prompt") notePrompt(record);
  record.read(found);
  for (const watcher of record.watchers) {
    watcher.told(index, {
      ...NOTHING,
      ...{ part: input ? "input" : part, messages, policy, index: flaggedAt },
      verdict: { risk, riskProbability, category, categoryProbability, probabilities },
      action: ruling ? ACTIONS[ruling.action] : "told",
      finding: ruling ? findingOf(ruling) : null,
    });
  }
}

interface ClassifiedText {
  messages: readonly Message[];
  found: Classification;
  policy: Policy | null;
  /** Whether it is one of several texts that were asked about. */
  input?: boolean;
}

function notePrompt(record: RequestRecord): void {
  record.promptMs ??= performance.now() - record.startedAt;
}

function ofPart(
  part: "prompt" | "response",
  ruling: Ruling | null,
  policy: Policy | null,
): Omit<Told, "messages" | "verdict"> {
  const violation = ruling?.violation?.part === part ? ruling.violation : null;
  const finding = violation ?? ruling?.observed.find((own) => own.part === part) ?? null;
  const action = !ruling ? "told" : violation ? "stopped" : finding ? "observed" : "passed";
  return { ...NOTHING, part, policy, action, finding };
}

type JudgedPrompt = Pick<GuardStream, "ruling" | "promptTokens" | "reusedTokens">;

/** Tells those who watch the request that opened a token stream what becomes of it. */
export class StreamTelling {
  readonly record: RequestRecord;
  readonly #policy: Policy | null;
  readonly #messages: readonly Message[];
  #begun = false;
  #over = false;

  /** @param messages none where the stream was opened with ids */
  constructor(record: RequestRecord, policy: Policy | null, messages: readonly Message[]) {
    this.record = record;
    this.#policy = policy;
    this.#messages = messages;
  }

  prompt(verdict: Judgement | null, stream: JudgedPrompt): void {
    this.#begun = true;
    notePrompt(this.record);
    this.record.read(stream);
    const told = ofPart("prompt", stream.ruling, this.#policy);
    for (const watcher of this.record.watchers)
      watcher.told(0, { ...told, messages: this.#messages, verdict });
  }

  heard(text: string): void {
    for (const watcher of this.record.watchers) watcher.heard(text);
  }

  ended({ risk, category, flaggedAt, tokens }: Decision, ruling: Ruling | null): void {
    this.record.tokens = tokens;
    const verdict = { risk, riskProbability: null, category, categoryProbability: null };
    this.#end({ ...ofPart("response", ruling, this.#policy), verdict, index: flaggedAt, tokens });
  }

  /** How a socket's log has it: it was switched to at first. */
  over(reason: GuardError): { status: number; error: unknown } {
    if (this.#over && this.record.end === null) return { status: SWITCHED, error: null };
    return reason instanceof ClosedError
      ? { status: SWITCHED, error: null }
      : { status: toRequestError(reason).status, error: reason };
  }

  /** It is over, one way or the other. @param reason why it was closed; of one that ended nothing is told again */
  closed(reason: GuardError): void {
    const { status, code } = toRequestError(reason.cause ?? reason);
    const action = reason instanceof ClosedError ? "cancelled" : status < 500 ? "refused" : "failed";
    const error = reason instanceof ClosedError ? reason.code.toLowerCase() : code;
    if (!this.#over) this.record.end = action;
    this.#end({ ...NOTHING, part: "response", policy: this.#policy, action, error, verdict: null });
  }

  #end(told: Omit<Told, "messages">): void {
    // Where the prompt has no verdict the request is what failed.
    if (this.#over || !this.#begun) return;
    this.#over = true;
    for (const watcher of this.record.watchers) watcher.told(0, { ...told, messages: [] });
  }
}
