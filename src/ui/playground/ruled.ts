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
  const run = new RuledRun(policy);
  for (const event of events) run.take(event);
  return run.ruled;
}

type Event<T extends RunEvent["type"]> = Extract<RunEvent, { type: T }>;

class RuledRun {
  readonly ruled: Ruled = {
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
  readonly #policy: Policy | null;
  readonly #reviewer: Reviewer | null;
  #came = "";
  /** The prompt has. */
  #passed = false;

  constructor(policy: Policy | null) {
    this.#policy = policy;
    this.#reviewer = policy && new Reviewer(policy.response);
  }

  take(event: RunEvent): void {
    if (event.type === "chunk") this.#chunk(event);
    else if (event.type === "prompt") this.#prompt(event);
    else if (event.type === "verdicts") this.#verdicts(event);
    else if (event.type === "end") this.#end(event);
    else {
      this.ruled.ended = true;
      this.ruled.failure = event;
      this.#stop(event.at);
    }
  }

  #chunk({ text, at }: Event<"chunk">): void {
    const { ruled } = this;
    this.#came += text;
    ruled.behind += text.length;
    ruled.peakBehind = Math.max(ruled.peakBehind, ruled.behind);
    if (this.#passed && !ruled.violation) show(ruled.streamFirst, this.#came, at);
  }

  #prompt({ verdict, turns, at }: Event<"prompt">): void {
    const { ruled } = this;
    ruled.prompt = verdict;
    ruled.promptAt = at;
    ruled.promptRuling = this.#policy && rulePrompt(turns, this.#policy);
    this.#passed = ruled.promptRuling?.violation === null;
    if (this.#passed) {
      show(ruled.streamFirst, this.#came, at);
      this.#review([], at);
    } else if (this.#policy) this.#stop(at);
  }

  #verdicts({ verdicts, settled, ms, at }: Event<"verdicts">): void {
    const { ruled } = this;
    for (const verdict of verdicts) {
      ruled.verdicts.length = Math.min(ruled.verdicts.length, verdict.index);
      ruled.verdicts.push(verdict);
    }
    ruled.settled = Math.max(ruled.settled, settled);
    ruled.behind = Math.max(0, this.#came.length - judgedLength(ruled.verdicts));
    if (verdicts.length > 0) ruled.latencies.push(ms);
    this.#review(verdicts, at);
  }

  #end({ at }: Event<"end">): void {
    const { ruled } = this;
    ruled.ended = true;
    ruled.behind = 0;
    ruled.settled = ruled.verdicts.length;
    this.#review([], at);
    for (const reader of [ruled.holdBack, ruled.streamFirst]) {
      if (reader.state === "stopped" || !this.#passed) continue;
      show(reader, this.#came, at);
      reader.state = "complete";
    }
  }

  #review(verdicts: readonly Verdict[], at: number): void {
    const { ruled } = this;
    if (this.#reviewer) {
      const { flag, observed } = this.#reviewer.review(verdicts, ruled.settled);
      ruled.observed.push(...observed);
      ruled.violation ??= flag;
    }
    if (!this.#passed) return;
    const clear = ruled.verdicts.slice(0, this.#reviewer?.clear);
    show(ruled.holdBack, clear.map(({ text }) => text).join(""), at);
    if (ruled.violation) this.#stop(at);
  }

  #stop(at: number): void {
    stop(this.ruled.holdBack, at);
    stop(this.ruled.streamFirst, at);
  }
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
