import type { Outcome } from "../gate/gate-options.js";
import type { ModerationViolation } from "../gate/violation.js";
import type { Policy } from "../moderation/policy.js";
import type { Finding, Ruling } from "../moderation/ruling.js";
import type { TurnVerdict } from "../moderation/verdict.js";
import type { Received } from "./lane.js";
import type { LogEntry } from "./record.js";
import type { Dropped } from "./regenerate/dropped.js";
import type { TextMessage } from "./request/messages.js";

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
  /** Called once. */
  ended(end: Ended): void;
}
