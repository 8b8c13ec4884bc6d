import { type GuardError, InputError } from "../errors.js";
import type { Decision } from "../moderation/decision.js";
import type { Policy } from "../moderation/policy.js";
import type { Finding, Ruling } from "../moderation/ruling.js";
import type { TurnVerdict, Verdict } from "../moderation/verdict.js";
import { aBoolean, aFunction, aSignal, type OptionCheck, oneOf } from "../validation/options.js";
import { aBatch, type BatchOptions } from "./batches.js";
import type { Part } from "./parts.js";
import type { ModerationViolation } from "./violation.js";

/**
 * hold-back: nothing leaves before its verdict stands and no flag can reach it any more.
 * stream-first: text leaves at once and is judged beside; a flag stops what follows.
 * scout-first: text leaves once the scout has read it; where that suspects something, text is held back until the guard
 * has ruled.
 */
export type Mode = "hold-back" | "stream-first" | "scout-first";

/**
 * When text that is held back leaves. settled: no flag can reach it any more. judged: it is judged clear as it stands, and
 * no row of tokens is open; should later letters turn a word into a flag, its beginning has been seen and nothing after.
 */
export type Release = "settled" | "judged";

/** What a gate needs of a GuardStream. */
export interface VerdictStream {
  readonly turns: Promise<readonly TurnVerdict[]>;
  /** Resolves with why it ended, once it has. */
  readonly closed: Promise<GuardError>;
  readonly settled: number;
  readonly slides: number;
  readonly promptTokens: number;
  readonly reusedTokens: number;
  push(ids: readonly number[]): Promise<Verdict[]>;
  /** Takes text that is judged with what comes next. Returns how many tokens wait. */
  stage(text: string): Promise<number>;
  pushText(text: string): Promise<Verdict[]>;
  flush(): Promise<Verdict[]>;
  end(): Promise<Decision>;
  close(): void;
}

/** A guard's stream whose response can begin again. */
export interface RestartableStream extends VerdictStream {
  /** Of the response since it last began again, tokens from the first that had been judged before. */
  readonly recalled: number;
  restart(): void;
}

/** What stands between a source and its reader: one gate, or several, one after the other. */
export interface PartGate<T> extends AsyncIterableIterator<Part<T>> {
  /** The policy's ruling on the prompt; null where it ended before there was one. Never rejects. */
  readonly prompt: Promise<Ruling | null>;
  /** How it ended. Never rejects. */
  readonly done: Promise<Outcome>;
  readonly stats: Readonly<GateStats>;
  /** Begins to judge the prompt and to read the source. Idempotent. */
  start(): void;
  next(): Promise<IteratorResult<Part<T>, undefined>>;
  /** Stops everything: the source is told, the guard's slot is free. Idempotent. */
  return(): Promise<IteratorResult<Part<T>, undefined>>;
}

export interface GateOptions {
  policy: Policy;
  /** Default "hold-back". */
  mode?: Mode;
  /** Default "settled". */
  release?: Release;
  /** Judges in batches. Default: each token at once; with a scout { tokens: 16, ms: 500 }. */
  batch?: BatchOptions;
  /** Asks the source for nothing before the prompt has passed. Default false: both at once. */
  promptFirst?: boolean;
  /** Stops everything when it fires. */
  signal?: AbortSignal;
  /** Called with what the policy says to observe. */
  onObserve?: (finding: Finding) => void;
  /**
   * Called once when the guard has failed and the policy (`failOpen`) lets the rest pass unjudged, with what it failed
   * of. Where it throws, the rest does not pass.
   */
  onFailure?: (error: GuardError) => void;
}

export const GATE_OPTIONS = {
  mode: oneOf("hold-back", "stream-first", "scout-first"),
  release: oneOf("settled", "judged"),
  batch: aBatch,
  promptFirst: aBoolean,
  signal: aSignal,
  onObserve: aFunction,
  onFailure: aFunction,
} satisfies Record<keyof Omit<GateOptions, "policy">, OptionCheck>;

/** @throws {InputError} OPTION_INVALID */
export function checkMode(mode: Mode | undefined, scout: unknown): void {
  if (mode !== "scout-first" || scout) return;
  throw new InputError("OPTION_INVALID", 'The mode "scout-first" needs a scout: { scout: true }.');
}

/** Where a gate stands. Amounts are in UTF-16 units of text, or in ids. */
export interface GateStats {
  /** Taken from the source. */
  received: number;
  /** Of that, judged for good. */
  judged: number;
  /** Of that, handed to the reader. */
  released: number;
  /** Taken from the source and not given to the guard yet, or still with it: how far the guard is behind. */
  lag: number;
  peakLag: number;
  /** Tokens with a verdict that stands, of what was dropped as well. */
  tokens: number;
  /** How often something was dropped and the source was asked to go on in its place (mode "regenerate"). */
  regenerations: number;
  /** How much was dropped. */
  dropped: number;
  /** How often the guard's context slid on. */
  slides: number;
  /** How often the scout suspected something. */
  suspicions: number;
  /** Tokens of the conversation before the response; 0 before the prompt's verdict. */
  promptTokens: number;
  /** Of these, those that the guard had read before. */
  reusedTokens: number;
  /** Milliseconds from the start to the prompt's verdict; null before it. */
  promptMs: number | null;
  /** Milliseconds that the source had to wait because the guard was behind. */
  waitedForGuardMs: number;
}

/** How a gate ended. */
export interface Outcome {
  /** complete: all passed. flagged: the policy stopped it. failed: guard or source did. cancelled: the reader left. */
  end: "complete" | "flagged" | "failed" | "cancelled";
  violation: ModerationViolation | null;
  observed: Finding[];
  /** What was flagged and dropped before the source went on in its place, in order (mode "regenerate"). */
  dropped: ModerationViolation[];
  /** What the guard, or the source, failed of. With `failOpen` also where the text passed all the same. */
  error: unknown;
  /** Whether the guard failed and the policy (`failOpen`) let text pass unjudged; `error` is what it failed of. */
  failedOpen: boolean;
  /** What the scout failed of, if it did: from then on every token was judged at once. */
  scoutError: unknown;
  /** The report's own reading of the whole response; null where there was no text, or not all of it was judged. */
  decision: Decision | null;
  stats: GateStats;
}
