import type { Policy } from "../../moderation/policy.js";
import { Reviewer } from "../../moderation/reviewer.js";
import { type Finding, type Ruling, rulePrompt } from "../../moderation/ruling.js";
import type { Verdict } from "../../moderation/verdict.js";
import type { RunEvent } from "../../playground/protocol.js";

/** What a reader would have seen by now. */
export interface Reader {
  text: string;
  /** Milliseconds from the start to the first text; null before it. */
  firstAt: number | null;
  state: "waiting" | "reading" | "stopped" | "complete";
  /** When that was so. */
  stoppedAt: number | null;
}

/** A run as a policy sees it. Worked out from what came, so that another policy needs no other run. */
export interface Ruled {
  /** The newest verdict of each token. */
  verdicts: Verdict[];
  settled: number;
  prompt: Verdict | null;
  promptAt: number | null;
  promptRuling: Ruling | null;
  violation: Finding | null;
  observed: Finding[];
  holdBack: Reader;
  streamFirst: Reader;
  /** Milliseconds that each chunk waited for its verdicts. */
  latencies: number[];
  /** Characters that came and have no verdict yet; the most there ever were. */
  behind: number;
  peakBehind: number;
  failure: { code: string; message: string } | null;
  ended: boolean;
}

/** @param policy null while what is being typed is no policy: nothing is ruled on then */
export function ruleRun(events: readonly RunEvent[], policy: Policy | null): Ruled {
  const ruled: Ruled = {
    verdicts: [],
    settled: 0,
    prompt: null,
    promptAt: null,
    promptRuling: null,
    violation: null,
    observed: [],
    holdBack: newReader(),
    streamFirst: newReader(),
    latencies: [],
    behind: 0,
    peakBehind: 0,
    failure: null,
    ended: false,
  };
  const reviewer = policy && new Reviewer(policy.response);
  let came = "";
  let passed = false;

  const review = (verdicts: readonly Verdict[], at: number) => {
    if (reviewer) {
      const { flag, observed } = reviewer.review(verdicts, ruled.settled);
      ruled.observed.push(...observed);
      ruled.violation ??= flag;
    }
    if (!passed) return;
    const clear = ruled.verdicts.slice(0, reviewer?.clear);
    show(ruled.holdBack, clear.map(({ text }) => text).join(""), at);
    if (!ruled.violation) return;
    stop(ruled.holdBack, at);
    stop(ruled.streamFirst, at);
  };

  for (const event of events) {
    if (event.type === "chunk") {
      came += event.text;
      ruled.behind += event.text.length;
      ruled.peakBehind = Math.max(ruled.peakBehind, ruled.behind);
      if (passed && !ruled.violation) show(ruled.streamFirst, came, event.at);
    } else if (event.type === "prompt") {
      ruled.prompt = event.verdict;
      ruled.promptAt = event.at;
      ruled.promptRuling = policy && rulePrompt(event.turns, policy);
      passed = ruled.promptRuling?.violation === null;
      if (passed) {
        show(ruled.streamFirst, came, event.at);
        review([], event.at);
      } else if (policy) {
        stop(ruled.holdBack, event.at);
        stop(ruled.streamFirst, event.at);
      }
    } else if (event.type === "verdicts") {
      for (const verdict of event.verdicts) {
        ruled.verdicts.length = Math.min(ruled.verdicts.length, verdict.index);
        ruled.verdicts.push(verdict);
      }
      ruled.settled = Math.max(ruled.settled, event.settled);
      ruled.behind = Math.max(0, came.length - judgedLength(ruled.verdicts));
      if (event.verdicts.length > 0) ruled.latencies.push(event.ms);
      review(event.verdicts, event.at);
    } else if (event.type === "end") {
      ruled.ended = true;
      ruled.behind = 0;
      ruled.settled = ruled.verdicts.length;
      review([], event.at);
      for (const reader of [ruled.holdBack, ruled.streamFirst]) {
        if (reader.state === "stopped" || !passed) continue;
        show(reader, came, event.at);
        reader.state = "complete";
      }
    } else {
      ruled.ended = true;
      ruled.failure = event;
      stop(ruled.holdBack, event.at);
      stop(ruled.streamFirst, event.at);
    }
  }
  return ruled;
}

function newReader(): Reader {
  return { text: "", firstAt: null, state: "waiting", stoppedAt: null };
}

function show(reader: Reader, text: string, at: number): void {
  if (reader.state === "stopped" || text.length <= reader.text.length) return;
  reader.text = text;
  reader.firstAt ??= at;
  reader.state = "reading";
}

function stop(reader: Reader, at: number): void {
  if (reader.state === "stopped" || reader.state === "complete") return;
  reader.state = "stopped";
  reader.stoppedAt = at;
}

function judgedLength(verdicts: readonly Verdict[]): number {
  return verdicts.reduce((sum, { text }) => sum + text.length, 0);
}

/** The value that a share of the values does not exceed. */
export function percentile(values: readonly number[], share: number): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
}
