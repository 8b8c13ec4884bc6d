import type { Decision } from "../moderation/decision.js";
import type { PolicyData } from "../moderation/policy.js";
import type { TurnVerdict, Verdict } from "../moderation/verdict.js";

/** One turn of a conversation, as the page edits it. */
export interface Turn {
  role: "system" | "user" | "assistant";
  content: string;
}

/** Where an answer comes from. */
export type AnswerSource =
  /** Text played word by word. `perSecond` is words a second; 0 plays all at once. */
  | { kind: "text"; text: string; perSecond: number }
  /** An OpenAI-compatible API, or Ollama's own. The key goes to that address alone. */
  | { kind: "openai" | "ollama"; url: string; model: string; key?: string };

export interface RunRequest {
  /** The conversation up to the answer. */
  messages: Turn[];
  source: AnswerSource;
}

/** What a run tells the page, one JSON line each. `at` is milliseconds since the run began. */
export type RunEvent =
  /** `turns`: what a policy rules on. */
  | { type: "prompt"; at: number; verdict: Verdict | null; turns: readonly TurnVerdict[] }
  | { type: "chunk"; at: number; text: string }
  /** `ms`: from the chunk's arrival to its verdicts. `settled`: tokens that no later text can change. */
  | { type: "verdicts"; at: number; ms: number; settled: number; verdicts: Verdict[] }
  | { type: "end"; at: number; decision: Decision | null }
  | { type: "failed"; at: number; code: string; message: string };

/** What the page shows of the loaded guard. */
export interface GuardInfo {
  version: string;
  /** A name to show: the embedded model's, or the model's folder or hub id. */
  model: string;
  embedded: boolean;
  dtype: string;
  kvCache: string;
  device: string;
  maxStreams: number;
  maxTokens: number;
  labels: {
    promptRisk: string[];
    promptCategory: string[];
    responseRisk: string[];
    responseCategory: string[];
  };
}

/** What changes while a guard works. `rss` is bytes that the process holds in memory. */
export interface GuardLoad {
  active: number;
  waiting: number;
  rss: number;
}

/** A conversation to pick, with an answer to play. */
export interface Example {
  title: string;
  titleZh: string;
  messages: Turn[];
  response: string;
}

/** A run as it was seen: the conversation, what came, when. */
export interface Recording {
  messages: Turn[];
  events: RunEvent[];
  policy: PolicyData;
}

/** What the page is opened with. A page that was saved holds a recording, and needs no server. */
export interface PageData {
  guard: GuardInfo;
  examples: Example[];
  defaultPolicy: PolicyData;
  recording: Recording | null;
}
