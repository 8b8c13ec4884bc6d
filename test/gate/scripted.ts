import { ClosedError, type GuardError, NumericError } from "../../src/errors.js";
import type { RestartableStream } from "../../src/gate/gate-options.js";
import type { Guard, PromptInput, StreamInput } from "../../src/guard.js";
import { type Decision, decide } from "../../src/moderation/decision.js";
import { type PolicyData, resolvePolicy } from "../../src/moderation/policy.js";
import type { TurnVerdict, Verdict } from "../../src/moderation/verdict.js";

export const LABELS = {
  promptRisk: ["Safe", "Unsafe", "Controversial"],
  promptCategory: ["Violent", "PII", "Jailbreak"],
  responseRisk: ["Safe", "Unsafe", "Controversial"],
  responseCategory: ["Violent", "PII"],
};

export const policyOf = (data: PolicyData = {}) => resolvePolicy(data, LABELS);

/** A verdict whose most likely risk has the probability 0.9. */
export function verdict(index: number, risk: string, text = "", category = "Violent"): Verdict {
  const others = LABELS.responseRisk.map((label) => (label === risk ? 0.9 : 0.05));
  const categories = LABELS.responseCategory.map((label) => (label === category ? 0.8 : 0.2));
  return {
    index,
    tokenId: 0,
    text,
    risk,
    riskProbability: 0.9,
    category: risk === "Safe" ? null : category,
    categoryProbability: risk === "Safe" ? null : 0.8,
    probabilities: { risk: others, category: categories },
    provisional: false,
  };
}

interface Script {
  /** Risk of the prompt. */
  prompt?: string;
  /** Resolves before the prompt's verdict comes. */
  promptAfter?: Promise<unknown>;
  /** Waits before each push resolves. */
  beforePush?: () => Promise<unknown> | undefined;
  /** Fails the push that brings the number of tokens to this. */
  failAt?: number;
  /** Risk of a word. Default: one with BAD in it is unsafe, one with HMM controversial. */
  riskOf?: (word: string) => string;
  /** What it fails of. Default: NumericError, LOGITS_NOT_FINITE. */
  failure?: GuardError;
}

/**
 * A guard's stream by script. Tokens are words with the white space before them; the last is provisional, as more
 * letters may come. A word with BAD in it is unsafe, one with HMM controversial; PII names its category.
 */
export class ScriptedStream implements RestartableStream {
  /** Of a word. */
  static verdict(index: number, word: string, riskOf = usualRisk): Verdict {
    return verdict(index, riskOf(word), word, word.includes("PII") ? "PII" : "Violent");
  }

  static open = 0;
  readonly prompt: Promise<Verdict | null>;
  readonly turns: Promise<TurnVerdict[]>;
  readonly closed: Promise<GuardError>;
  #resolveClosed!: (reason: GuardError) => void;
  settled = 0;
  slides = 0;
  promptTokens = 0;
  reusedTokens = 0;
  isClosed = false;
  pushes: string[] = [];
  stages: string[] = [];
  /** All text that was staged so far, each time that it was judged. */
  judgedAfter: string[] = [];
  readonly #script: Script;
  #text = "";
  #verdicts: Verdict[] = [];
  /** Of the response before it began again. */
  #past: Verdict[] = [];
  restarts = 0;

  constructor(script: Script = {}) {
    ScriptedStream.open++;
    this.#script = script;
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    const prompt = (script.promptAfter ?? Promise.resolve()).then(() => verdict(3, script.prompt ?? "Safe"));
    this.prompt = prompt;
    this.turns = prompt.then((last) => [{ ...last, role: "user", empty: false, turn: 0 }]);
    for (const judged of [this.prompt, this.turns]) judged.catch(() => {});
  }

  async pushText(text: string): Promise<Verdict[]> {
    this.#check();
    this.pushes.push(text);
    this.#text += text;
    await this.#script.beforePush?.();
    this.#check();
    return this.#judge(false);
  }

  /** Waits with the next push: words, the last of which may grow. */
  async stage(text: string): Promise<number> {
    this.#check();
    this.stages.push(text);
    this.#text += text;
    return (this.#text.match(WORD) ?? []).length;
  }

  async push(ids: readonly number[]): Promise<Verdict[]> {
    this.#check();
    await this.#script.beforePush?.();
    this.#check();
    const added = ids.map((id, i) => verdict(this.settled + i, id === 666 ? "Unsafe" : "Safe"));
    this.#verdicts.push(...added);
    this.settled = this.#verdicts.length;
    return added;
  }

  async flush(): Promise<Verdict[]> {
    this.#check();
    await this.#script.beforePush?.();
    this.#check();
    return this.#judge(true);
  }

  async end(): Promise<Decision> {
    this.#check();
    this.close();
    return decide(this.#verdicts, "Safe");
  }

  get recalled(): number {
    const differs = this.#verdicts.findIndex(({ text }, i) => text !== this.#past[i]?.text);
    return differs < 0 ? this.#verdicts.length : differs;
  }

  restart(): void {
    this.#check();
    this.restarts++;
    this.#past = this.#verdicts;
    this.#verdicts = [];
    this.#text = "";
    this.settled = 0;
  }

  close(reason: GuardError = new ClosedError("STREAM_CLOSED", "closed")): void {
    if (!this.isClosed) ScriptedStream.open--;
    this.isClosed = true;
    this.#resolveClosed(reason);
  }

  #judge(complete: boolean): Verdict[] {
    if (this.stages.length > 0) this.judgedAfter.push(this.stages.join(""));
    const words = (this.#text.match(WORD) ?? []).map((word) => word.normalize("NFC"));
    const { failAt = Infinity, failure, riskOf = usualRisk } = this.#script;
    if (this.settled + words.length >= failAt)
      throw failure ?? new NumericError("LOGITS_NOT_FINITE", "scripted failure");
    const known = this.#verdicts.slice(this.settled);
    let from = 0;
    while (from < known.length && known[from].text === words[from]) from++;
    this.#verdicts.length = this.settled + from;
    const added = words.slice(from).map((word, i) => {
      return ScriptedStream.verdict(this.settled + from + i, word, riskOf);
    });
    this.#verdicts.push(...added);
    const open = complete ? 0 : Math.min(1, words.length);
    this.settled += words.length - open;
    this.#text = open ? (this.#text.match(WORD) as string[]).at(-1)! : "";
    return added;
  }

  #check(): void {
    if (this.isClosed) throw new ClosedError("STREAM_CLOSED", "closed");
  }
}

function usualRisk(word: string): string {
  return word.includes("BAD") ? "Unsafe" : word.includes("HMM") ? "Controversial" : "Safe";
}

const WORD = /\s*\S+|\s+$/g;

/** A guard whose streams go by script. Remembers what they were opened with. */
export function scriptedGuard(script: Script | ((input: StreamInput) => Script) = {}) {
  const inputs: StreamInput[] = [];
  const streams: ScriptedStream[] = [];
  const prompts: PromptInput[] = [];
  const guard = {
    labels: LABELS,
    maxStreams: 8,
    maxTokens: 8192,
    tokenizer: { longest: 128 },
    modelDir: "scripted",
    get load() {
      return { active: ScriptedStream.open, waiting: 0 };
    },
    /** A prompt is what it was made of. */
    prompt(input: PromptInput) {
      prompts.push(input);
      return input;
    },
    stream({ prompt, ...rest }: StreamInput) {
      const input = { ...(prompt as unknown as PromptInput), ...rest } as StreamInput;
      inputs.push(input);
      const judge = new ScriptedStream(typeof script === "function" ? script(input) : script);
      streams.push(judge);
      return judge;
    },
  };
  return { guard: guard as unknown as Guard, inputs, prompts, streams };
}
