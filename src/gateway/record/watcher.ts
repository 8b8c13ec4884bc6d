import type { Outcome } from "../../gate/gate-options.js";
import type { ModerationViolation } from "../../gate/violation.js";
import type { Policy } from "../../moderation/policy.js";
import type { Finding, Ruling } from "../../moderation/ruling.js";
import type { Judgement, TurnVerdict } from "../../moderation/verdict.js";
import type { Message } from "../../tokenizer/chat-template/messages.js";
import type { Received } from "../answer/lane.js";
import type { Dropped } from "../regenerate/dropped.js";
import type { TextMessage } from "../request/messages.js";
import type { LogEntry } from "./record.js";

/** A choice whose moderation begins. */
export interface Begun {
  messages: readonly TextMessage[];
  policy: Policy;
  /** Whether a text answers in the place of what a violation stops. */
  replaces: (violation: ModerationViolation) => boolean;
}

/** What a policy made of a prompt. */
export interface Ruled {
  ruling: Ruling;
  turns: readonly TurnVerdict[];
  /** The guard failed, and the policy (`failOpen`) lets the prompt go on without. */
  unguarded: boolean;
}

/** A verdict that was asked for and given, and what a policy makes of it, where there is one. */
export interface Told {
  part: "prompt" | "input" | "response";
  /** The whole conversation; none where the answer came as text (`heard`). */
  messages: readonly Message[];
  verdict: ToldVerdict | null;
  /** Of the response's tokens the one that made it so. */
  index: number | null;
  tokens: number | null;
  policy: Policy | null;
  /** told: no policy rules on it. */
  action: "told" | "passed" | "observed" | "stopped" | "cancelled" | "refused" | "failed";
  finding: Finding | null;
  /** Code of what went wrong. */
  error: string | null;
}

/** The guard's own, whatever a policy makes of it. */
export interface ToldVerdict {
  risk: string;
  /** Null where it is of a row of tokens. */
  riskProbability: number | null;
  category: string | null;
  categoryProbability: number | null;
  probabilities?: Judgement["probabilities"];
}

/** How a request ended: what was judged of it, and what went wrong. */
export interface Ended {
  entry: LogEntry;
  /** Of each choice whose moderation began. */
  outcomes: readonly Outcome[];
  /** What of the answer went on that nobody judged, by kind. */
  unjudged: Readonly<Record<string, number>>;
  error: unknown;
}

/** Is told what becomes of a request, while it happens. Nothing of it throws. */
export interface Watcher {
  begins(choice: number, begun: Begun): void;
  prompt(choice: number, ruled: Ruled): void;
  observed(choice: number, finding: Finding): void;
  /** Text of the answer has come, and goes to the guard. */
  received(choice: number, text: string, as: Received): void;
  /** Text of the answer goes on to the client. */
  released(choice: number, text: string): void;
  /** What was not released of the answer is dropped, and the model is asked to go on. */
  dropped(choice: number, dropped: Dropped): void;
  /** One of the texts that a request for moderations is about. */
  input(index: number, ruled: Ruled & Omit<Begun, "replaces">): void;
  /** A text, from 0, of which a client is told the verdict. */
  told(index: number, told: Told): void;
  /** Text of an answer whose verdicts a client is told as it comes. */
  heard(text: string): void;
  /** Called once. */
  ended(end: Ended): void;
}
