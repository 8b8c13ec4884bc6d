import { ClosedError } from "../../errors.js";
import { nameOf } from "../../gate/attempt.js";
import type { Outcome } from "../../gate/gate-options.js";
import { ModerationViolation } from "../../gate/violation.js";
import type { GuardConfig } from "../../model/config.js";
import type { Finding } from "../../moderation/ruling.js";
import type { Message } from "../../tokenizer/chat-template/messages.js";
import type { Received } from "../answer/lane.js";
import { RequestError, toRequestError } from "../api-error.js";
import { counted, type LogEntry, type RequestRecord } from "../record/record.js";
import type { Begun, Ended, Ruled, Told, Watcher } from "../record/watcher.js";
import type { Dropped } from "../regenerate/dropped.js";
import { UpstreamError } from "../upstream-error.js";
import {
  type AuditAction,
  type AuditEntry,
  type AuditPart,
  type Evidence,
  evidenceOf,
  evidenceOfPass,
  evidenceOfTold,
  NO_EVIDENCE,
} from "./entry.js";
import { HeardText, LONGEST_TOLD } from "./heard-text.js";
import type { AuditLog } from "./log.js";
import { ReadText } from "./read-text.js";

interface Choice extends Begun {
  answer: ReadText;
  /** The answer that was dropped last, how much was judged until then, and how many were. */
  dropped: { answer: ReadText; judged: number; count: number } | null;
  /** Null: it was not ruled on. */
  prompt: "passed" | "stopped" | null;
}

/** Codes with which the policy, not a failure, ends an answer. */
const REFUSALS = ["tool_call_refused"];

/** Writes the decisions on one request down, each as it is made and none twice. */
export class AuditTrail implements Watcher {
  readonly #log: AuditLog;
  readonly #record: RequestRecord;
  readonly #labels: GuardConfig["labels"];
  readonly #choices: Choice[] = [];
  #heard: HeardText | null = null;
  /** A line says something of the request already. */
  #written = false;

  constructor(log: AuditLog, record: RequestRecord, labels: GuardConfig["labels"]) {
    this.#log = log;
    this.#record = record;
    this.#labels = labels;
  }

  begins(choice: number, begun: Begun): void {
    this.#choices[choice] = { ...begun, answer: new ReadText(), dropped: null, prompt: null };
  }

  prompt(choice: number, ruled: Ruled): void {
    const begun = this.#choices[choice];
    begun.prompt = ruled.ruling.violation ? "stopped" : "passed";
    this.#ruled("prompt", choice, { ...begun, ...ruled });
  }

  input(index: number, ruled: Ruled & Omit<Begun, "replaces">): void {
    this.#ruled("input", index, { replaces: () => false, ...ruled });
  }

  observed(choice: number, finding: Finding): void {
    const { messages, policy } = this.#choices[choice];
    const asked = finding.part === "prompt" ? this.#conversation(messages) : {};
    const evidence = evidenceOf(finding, policy, this.#labels);
    this.#write(finding.part, choice, "observed", { ...evidence, ...asked });
  }

  received(choice: number, text: string, as: Received): void {
    this.#choices[choice].answer.add(text, as);
  }

  released(): void {}

  dropped(choice: number, { violation, intervention, released, judged, tokens }: Dropped): void {
    const own = this.#choices[choice];
    this.#write(partOf(own.answer, judged), choice, "dropped", {
      ...evidenceOf(violation.finding, own.policy, this.#labels),
      ...{ span: placeOf(violation), attempt: violation.regenerations, intervention: nameOf(intervention) },
      ...{ tokens, ...this.#hashed(own.answer.until(judged)) },
    });
    own.dropped = { answer: own.answer, judged, count: (own.dropped?.count ?? 0) + 1 };
    own.answer = new ReadText(released, judged);
  }

  told(index: number, told: Told): void {
    const { part, messages, action, error, tokens } = told;
    const evidence = evidenceOfTold(told, this.#labels);
    this.#write(part, index, action, { ...evidence, tokens, error, ...this.#hashOf(part, messages) });
  }

  #hashOf(part: Told["part"], messages: readonly Message[]): Partial<AuditEntry> {
    const last = messages.at(-1);
    if (!last) return this.#heard?.end(this.#log.text) ?? {};
    return part === "response" ? this.#hashed(textOf(last)) : this.#conversation(messages);
  }

  heard(text: string): void {
    this.#heard ??= new HeardText(this.#log.key);
    this.#heard.add(text);
  }

  ended({ entry, outcomes, unjudged, error }: Ended): void {
    outcomes.forEach((judged, choice) => {
      const { prompt, messages } = this.#choices[choice];
      const failed = judged.error ?? error;
      // What was judged then was no answer, or went to nobody.
      const lost = judged.end === "complete" && entry.status >= 400;
      const outcome: Outcome = lost ? { ...judged, end: "failed" } : judged;
      if (prompt === "passed") this.#answered(choice, outcome, failed, unjudged);
      else if (prompt === null) {
        const ended = { error: codeOf(failed), tokens: outcome.stats.promptTokens };
        this.#write("prompt", choice, actionOf(outcome, failed), {
          ...ended,
          ...this.#conversation(messages),
        });
      }
    });
    if (!this.#written || (outcomes.length === 0 && error !== null)) this.#request(entry, error);
  }

  #ruled(part: "prompt" | "input", choice: number, ruled: Ruled & Begun): void {
    const { messages, policy, ruling, turns, unguarded, replaces } = ruled;
    const { violation } = ruling;
    const evidence = violation
      ? evidenceOf(violation, policy, this.#labels)
      : evidenceOfPass(turns, policy, this.#labels);
    const stopped =
      violation && (replaces(new ModerationViolation(violation, null)) ? "replaced" : "stopped");
    this.#write(part, choice, stopped ?? (unguarded ? "failed_open" : "passed"), {
      ...evidence,
      ...this.#conversation(messages),
      unjudged: counted(this.#record.unjudged),
    });
  }

  #answered(
    choice: number,
    outcome: Outcome,
    error: unknown,
    unjudged: Readonly<Record<string, number>>,
  ): void {
    const { policy, replaces, dropped, ...own } = this.#choices[choice];
    const { violation, decision, stats } = outcome;
    // Where nobody went on with the answer, it ended at the flag before.
    const gaveUp = violation && dropped && violation.regenerations < dropped.count;
    const { answer, judged } = gaveUp ? dropped : { answer: own.answer, judged: stats.judged };
    const evidence: Evidence = violation
      ? { ...evidenceOf(violation.finding, policy, this.#labels), span: placeOf(violation) }
      : { ...NO_EVIDENCE, risk: decision?.risk ?? null, category: decision?.category ?? null };
    const part = violation ? partOf(answer, judged) : "response";
    const replaced = violation !== null && replaces(violation);
    this.#write(part, choice, replaced ? "replaced" : actionOf(outcome, error), {
      ...evidence,
      ...{ tokens: stats.tokens, attempt: violation?.regenerations ?? stats.regenerations },
      error: outcome.end === "complete" && !outcome.failedOpen ? null : codeOf(error),
      unjudged,
      ...this.#hashed(answer.until(outcome.failedOpen ? Number.POSITIVE_INFINITY : judged)),
    });
  }

  /** The request as a whole, where nothing of it was judged. */
  #request({ end, unjudged, error }: LogEntry, cause: unknown): void {
    const action = end === "blocked" || end === "flagged" ? "stopped" : end;
    const code = error?.code ?? (cause === null ? null : codeOf(cause));
    this.#write("request", null, action, { error: code, unjudged });
  }

  #conversation(messages: readonly Message[]): Partial<AuditEntry> {
    const texts = messages.map(textOf);
    return { ...this.#hashed(texts.join("\n")), lastHash: this.#log.key.hash(texts.at(-1) ?? "") };
  }

  #hashed(text: string): Partial<AuditEntry> {
    if (text === "") return {};
    const hash = this.#log.key.hash(text);
    return this.#log.text ? { hash, text: text.slice(0, LONGEST_TOLD) } : { hash };
  }

  #write(part: AuditPart, choice: number | null, action: AuditAction, more: Partial<AuditEntry>): void {
    this.#written = true;
    const { id, trace, endpoint, model, stream, policy } = this.#record;
    const traceId = trace?.traceId ?? null;
    this.#log.write({
      ...{ time: new Date().toISOString(), requestId: id, traceId, route: endpoint, model, stream, policy },
      ...{ part, choice, action },
      ...NO_EVIDENCE,
      ...{ error: null, attempt: null, intervention: null, tokens: null, unjudged: {} },
      ...{ hash: null, lastHash: null, keyId: this.#log.key.id },
      ...more,
    });
  }
}

function actionOf({ end, violation, failedOpen }: Outcome, error: unknown): AuditAction {
  if (failedOpen) return "failed_open";
  if (violation) return "stopped";
  if (end === "complete") return "passed";
  const cause = causeOf(error);
  const known = cause instanceof RequestError || end === "failed";
  if (!known || cause instanceof ModerationViolation) return "cancelled";
  const { status, code } = toRequestError(cause);
  const refused = (status < 500 && !(cause instanceof UpstreamError)) || REFUSALS.includes(code);
  return refused ? "refused" : "failed";
}

/** What ended it, where a stream only knows that it was closed. */
function causeOf(error: unknown): unknown {
  return error instanceof ClosedError && error.cause instanceof RequestError ? error.cause : error;
}

function codeOf(error: unknown): string | null {
  const cause = causeOf(error);
  if (cause === null || cause === undefined) return null;
  return cause instanceof ClosedError ? cause.code.toLowerCase() : toRequestError(cause).code;
}

/** As what the guard had read the text that ends at the flag. */
function partOf(answer: ReadText, judged: number): "response" | "tool_call" {
  return answer.at(judged) === "call" ? "tool_call" : "response";
}

function placeOf({ span }: ModerationViolation): Evidence["span"] {
  return span && { start: span.start, end: span.end };
}

/** All that a message says. */
function textOf(message: Message): string {
  const { reasoning_content, content, refusal, tool_calls, function_call } = message;
  const calls = [tool_calls, function_call].map((call) => (call ? JSON.stringify(call) : ""));
  return [reasoning_content, partsOf(content), refusal, ...calls].filter(Boolean).join("\n");
}

function partsOf(content: Message["content"]): string | null | undefined {
  if (typeof content === "string" || content === null || content === undefined) return content;
  return content.map(({ text, refusal }) => text ?? refusal ?? "").join("");
}
