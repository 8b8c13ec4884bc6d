/**
 * Does anything wear out? Thousands of short streams of random lengths come and go, some cut short, some failing, some
 * read slowly, in phases. Between phases everything must be given back, a stream alone must be as fast as at the
 * start, and memory must stay. Every verdict is compared with that of the same text judged alone. Streams are turns of
 * conversations that begin alike, of several tenants: most of each is read once, and its end ahead of the next turn.
 *
 * "As fast as at the start" is asked of the ratio to a bare loop on the same session, which takes turns with the stream:
 * a machine that others share slows both alike.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Engine } from "../src/engine/engine.js";
import { ModerationViolation } from "../src/gate/violation.js";
import { Guard } from "../src/guard.js";
import { resolvePolicy } from "../src/moderation/policy.js";
import { ruleResponse } from "../src/moderation/ruling.js";
import type { Verdict } from "../src/moderation/verdict.js";
import { resolveModel } from "../src/resolve-model.js";
import { ChatTemplate } from "../src/tokenizer/chat-template/template.js";
import { Tokenizer } from "../src/tokenizer/tokenizer.js";
import { watchBackground } from "./background.js";
import { BareLoop } from "./bare-loop.js";
import { report } from "./report.js";
import { round, summarize } from "./stats.js";

const { values } = parseArgs({
  options: {
    streams: { type: "string", default: "8000" },
    phases: { type: "string", default: "16" },
    "at-once": { type: "string", default: "12" },
    model: { type: "string" },
    /** From which a token counts as unsafe: low enough, streams are flagged, too. */
    threshold: { type: "string", default: "0.05" },
  },
});
const phases = Number(values.phases);
/** The same work in each, so that what is left after one can be compared with what is left after another. */
const phaseStreams = Math.ceil(Number(values.streams) / phases);
const atOnce = Number(values["at-once"]);
/** Phases that warm up: bindings for every group of rows and every length are made when they are first needed. */
const WARM_UP = Math.min(6, Math.floor(phases / 3));
/** Between a row of a batch and the same alone, fp32 (probabilities). */
const TOLERANCE = 1e-3;
const PROBE_TOKENS = 400;
/** Tokens each side takes before it is the other's turn. */
const PROBE_BLOCK = 20;
const MAX_TOKENS = 512;
/** Seconds without the end of any stream after which something hangs. Those that the process is stopped for do not count. */
const STALLED = 120;

const OPENERS = [
  "How do I bake bread?",
  "Tell me of the sea.",
  "你好，请介绍一下长城。",
  "Fix my Python script.",
  "Warum ist der Himmel blau?",
];
const SENTENCES = [
  "Mix flour, water and salt, then let it rest. ",
  "The tide follows the moon — twice a day. ",
  "长城是古代中国的防御工程。",
  "for (let i = 0; i < 10; i++) console.log(i);\n\n",
  "Café, naïve, 👍🏽 and e\u0301clair: accents. ",
  "Kill the process with its id, and start it again. ",
  "Licht wird in der Luft gestreut. ",
];

interface Sample {
  messages: { role: string; content: string }[];
  text: string;
  prompt: Verdict;
  alone: Verdict[];
  /** The conversation's next turn. */
  next: Sample | null;
}

const ASSISTANTS = ["a kitchen", "a library", "a harbour"].map(
  (place) =>
    `You are the assistant of ${place}. Answer what you are asked in a few friendly words, in the language of the ` +
    "question, and say so where you do not know.",
);
const TENANTS = ["", "one", "two"];

const threshold = Number(values.threshold);
const random = generator(20);
const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)];
const dir = await resolveModel(values.model, { dtype: "fp32", device: "cpu" });
const engine = await Engine.load(dir, { maxStreams: 16, maxTokens: MAX_TOKENS });
const tokenizer = await Tokenizer.load(dir);
const guard = new Guard(dir, engine, tokenizer, await ChatTemplate.load(dir, tokenizer), { readAhead: true });
const bare = new BareLoop(engine.session, engine.manifest, MAX_TOKENS, engine.cacheType);
const policy = { thresholds: { Unsafe: threshold } };
const resolved = resolvePolicy(policy, guard.labels);

let keys = 0;
const samples: Sample[] = [];
for (let i = 0; i < 40; i++) {
  const system = random() < 0.7 ? [{ role: "system", content: pick(ASSISTANTS) }] : [];
  samples.push(await conversation(system, Math.floor(random() * 3)));
}

const counts = { streams: 0, whole: 0, left: 0, aborted: 0, failed: 0, flagged: 0, slow: 0, tokens: 0 };
const background = watchBackground();
let crossed = 0;
let furthest = 0;
const phasesSeen: (Probe & {
  pushP50: number;
  rssMB: number;
  heapMB: number;
  leaked: number;
  reusedPercent: number;
})[] = [];

let stalled = 0;
const watchdog = setInterval(() => {
  if (++stalled < STALLED) return;
  console.error("No stream has ended for two minutes.", counts, guard.load);
  process.exit(1);
}, 1000);

for (let phase = 0; phase < phases; phase++) {
  let left = phaseStreams;
  const latency: number[] = [];
  const client = async () => {
    while (left-- > 0) await one(latency);
  };
  await Promise.all(Array.from({ length: atOnce }, client));
  // Long enough for something to be read ahead, which the probe finds under way.
  await sleep(900);
  const { active, waiting } = guard.load;
  const alone = await probe();
  for (let i = 0; i < 8; i++) {
    globalThis.gc?.();
    await sleep(50);
  }
  const { rss, heapUsed, external } = process.memoryUsage();
  const rssMB = round(rss / 2 ** 20, 5);
  const heapMB = round((heapUsed + external) / 2 ** 20, 5);
  const { reusedTokens, prefilledTokens } = guard.load;
  const reusedPercent = round((100 * reusedTokens) / (reusedTokens + prefilledTokens), 3);
  const seen = {
    ...alone,
    pushP50: summarize(latency).p50,
    rssMB,
    heapMB,
    leaked: active + waiting,
    reusedPercent,
  };
  phasesSeen.push(seen);
  console.log(
    `phase ${phase + 1}/${phases}: ${counts.streams} streams, alone ${seen.aloneMs} ms (bare loop ${seen.bareMs} ms), under load ${seen.pushP50} ms, ` +
      `RSS ${rssMB} MB, heap ${heapMB} MB, slots held ${seen.leaked}, ${reusedPercent} % of prompts reused, verdicts that differ ${crossed}`,
  );
}

const warm = phasesSeen.slice(WARM_UP);
const third = Math.max(1, Math.floor(warm.length / 3));
const median = (of: (seen: (typeof warm)[number]) => number, part: typeof warm) =>
  summarize(part.map(of)).p50;
const change = (of: (seen: (typeof warm)[number]) => number) =>
  round(100 * (median(of, warm.slice(-third)) / median(of, warm.slice(0, third)) - 1), 3);
const result = {
  streams: counts,
  slotsLeaked: Math.max(...phasesSeen.map(({ leaked }) => leaked)),
  crossTalk: crossed,
  background,
  furthestFromAlone: furthest,
  p50DriftPercent: change(({ overBare }) => overBare),
  p50DriftUncorrectedPercent: change(({ aloneMs }) => aloneMs),
  p50DriftUnderLoadPercent: change(({ pushP50 }) => pushP50),
  rssGrowthPercent: change(({ rssMB }) => rssMB),
  heapGrowthPercent: change(({ heapMB }) => heapMB),
  phases: phasesSeen,
};
report("soak", { atOnce, threshold, warmUpPhases: WARM_UP, ...result });
const targets: [string, boolean][] = [
  ["no slot leaked", result.slotsLeaked === 0],
  ["what is read ahead runs", background.runs > 0],
  ["and never while a stream has something to run", background.delaying === 0],
  ["no verdict differs from that of the stream alone", crossed === 0],
  ["p50 alone, over the bare loop's, within 5 %", Math.abs(result.p50DriftPercent) <= 5],
  ["RSS grows by less than 1 %", result.rssGrowthPercent < 1],
];
for (const [name, met] of targets) console.log(`${met ? "met   " : "MISSED"} ${name}`);
console.log(
  `p50 drift alone ${result.p50DriftPercent} % (not over the bare loop's: ${result.p50DriftUncorrectedPercent} %), ` +
    `under load ${result.p50DriftUnderLoadPercent} %; RSS ${result.rssGrowthPercent} %`,
);
clearInterval(watchdog);
await guard.close();
if (targets.some(([, met]) => !met)) process.exitCode = 1;

/** A conversation, each turn a stream of a random kind. */
async function one(latency: number[]): Promise<void> {
  const cacheKey = pick(TENANTS);
  for (let sample: Sample | null = pick(samples); sample; sample = sample.next) {
    counts.streams++;
    if (random() < 0.5) await judged(sample, cacheKey, latency);
    else await gated(sample, cacheKey);
    stalled = 0;
  }
}

/** Verdicts one by one, left at a random place, or broken by a mistake. */
async function judged(
  { messages, text, prompt, alone }: Sample,
  cacheKey: string,
  latency: number[],
): Promise<void> {
  const controller = new AbortController();
  const stream = guard.stream({ messages, cacheKey, signal: controller.signal });
  const chunks = cut(text);
  const leaveAt = random() < 0.3 ? Math.floor(random() * chunks.length) : -1;
  const kind = pick(["close", "abort", "mistake"] as const);
  const standing: Verdict[] = [];
  const take = (verdicts: Verdict[]) => {
    for (const verdict of verdicts) {
      standing.length = verdict.index;
      standing.push(verdict);
    }
  };
  try {
    if (random() < 0.5) compare([(await stream.prompt) as Verdict], [prompt], 1);
    for (const [i, chunk] of chunks.entries()) {
      if (i === leaveAt) {
        const pending = stream.pushText(chunk);
        pending.catch(() => {});
        if (kind === "abort") controller.abort();
        else if (kind === "close") stream.close();
        else await stream.push([1]);
        await pending;
        break;
      }
      const started = performance.now();
      take(await stream.pushText(chunk));
      latency.push(performance.now() - started);
      if (random() < 0.02) await sleep(random() * 20);
    }
    if (leaveAt === -1) {
      take(await stream.flush());
      await stream.end();
      counts.whole++;
      compare(standing, alone, alone.length);
    }
  } catch {
    if (kind === "abort") counts.aborted++;
    else counts.failed++;
  } finally {
    if (leaveAt !== -1) counts.left++;
    stream.close();
  }
  counts.tokens += standing.length;
  compare(standing, alone, stream.settled);
}

/** Through a gate, read at any pace; sources may break off. */
async function gated({ messages, text, alone }: Sample, cacheKey: string): Promise<void> {
  const breaks = random() < 0.1;
  const slow = random() < 0.1;
  const leaves = random() < 0.2 ? Math.floor(random() * 10) : Number.POSITIVE_INFINITY;
  const mode = pick(["hold-back", "stream-first"] as const);
  async function* source() {
    for (const chunk of cut(text)) {
      if (breaks && random() < 0.1) throw new Error("broke off");
      await new Promise(setImmediate);
      yield chunk;
    }
  }
  const stream = guard.moderate(source, {
    messages,
    cacheKey,
    policy: { ...policy, prompt: { action: "ignore" } },
    mode,
  });
  let out = "";
  let reads = 0;
  let left = false;
  if (slow) counts.slow++;
  try {
    for await (const chunk of stream) {
      out += chunk;
      if (slow) await sleep(random() * 10);
      left = ++reads > leaves;
      if (left) break;
    }
  } catch (error) {
    if (error instanceof ModerationViolation) counts.flagged++;
    else counts.failed++;
  }
  const { end, violation, stats } = await stream.done;
  counts.tokens += stats.tokens;
  if (end === "complete") counts.whole++;
  if (end === "cancelled") counts.left++;
  const expected = ruleResponse(alone, resolved).violation;
  if (!text.startsWith(out) || (end === "complete" && !left && out !== text)) {
    crossed++;
    console.error("text", JSON.stringify({ end, mode, out, text, breaks }));
  }
  // Text that broke off may end in a token that the whole text does not have.
  if (
    !breaks &&
    (end === "complete" ? expected !== null : violation && violation.index !== expected?.index)
  ) {
    // Where a token lies within the tolerance of counting or not, either side is right.
    const near = alone.some(({ probabilities: { risk } }) => {
      const [first, second] = [...risk].sort((x, y) => y - x);
      return (
        Math.abs(risk[resolved.response.risks[0].index] - threshold) < TOLERANCE ||
        first - second < 2 * TOLERANCE
      );
    });
    if (!near) {
      crossed++;
      console.error(
        "flag",
        JSON.stringify({
          end,
          mode,
          breaks,
          leaves,
          index: violation?.index,
          expected: expected?.index,
          n: alone.length,
        }),
      );
    }
  }
}

function compare(verdicts: Verdict[], alone: Verdict[], settled: number): void {
  for (let i = 0; i < Math.min(settled, verdicts.length); i++) {
    const difference = Math.max(
      ...verdicts[i].probabilities.risk.map((p, j) => Math.abs(p - alone[i].probabilities.risk[j])),
      ...verdicts[i].probabilities.category.map((p, j) => Math.abs(p - alone[i].probabilities.category[j])),
    );
    furthest = Math.max(furthest, difference);
    if (verdicts[i].tokenId !== alone[i].tokenId || !(difference <= TOLERANCE)) {
      crossed++;
      console.error("verdict", i, difference, verdicts[i].tokenId, alone[i].tokenId, settled, alone.length);
      return;
    }
  }
}

/** A turn and those that follow it. */
async function conversation(before: Sample["messages"], followed: number): Promise<Sample> {
  const messages = [...before, { role: "user", content: pick(OPENERS) }];
  const text = Array.from({ length: 1 + Math.floor(random() * 6) }, () => pick(SENTENCES)).join("");
  const judged = await judgeAlone(messages, text);
  const next =
    followed > 0
      ? await conversation([...messages, { role: "assistant", content: text }], followed - 1)
      : null;
  return { messages, text, ...judged, next };
}

/** Under a key that nobody else has. */
async function judgeAlone(
  messages: Sample["messages"],
  text: string,
): Promise<Pick<Sample, "prompt" | "alone">> {
  const stream = guard.stream({ messages, cacheKey: `alone ${keys++}` });
  const prompt = (await stream.prompt) as Verdict;
  const verdicts = await stream.pushText(text);
  for (const verdict of await stream.flush()) {
    verdicts.length = verdict.index;
    verdicts.push(verdict);
  }
  await stream.end();
  return { prompt, alone: verdicts };
}

interface Probe {
  /** Milliseconds for one token of a stream that has the guard to itself, p50. */
  aloneMs: number;
  /** The same of a bare loop on the same session. */
  bareMs: number;
  /** The one over the other: the median over turns. */
  overBare: number;
}

async function probe(): Promise<Probe> {
  const stream = guard.stream({ messages: [{ role: "user", content: OPENERS[0] }] });
  await stream.prompt;
  const token = (i: number) => 100 + (i % 50);
  const sides = { alone: [] as number[][], bare: [] as number[][] };
  const turn = async (from: number, step: (i: number) => Promise<unknown>) => {
    const taken: number[] = [];
    for (let i = from; i < from + PROBE_BLOCK; i++) {
      const started = performance.now();
      await step(i);
      taken.push(performance.now() - started);
    }
    return taken;
  };
  for (let from = 0; from < PROBE_TOKENS; from += PROBE_BLOCK) {
    sides.alone.push(await turn(from, (i) => stream.push(token(i))));
    sides.bare.push(await turn(from, (i) => bare.runAsync([token(i)], i)));
  }
  stream.close();
  const p50 = (times: number[]) => summarize(times).p50;
  return {
    aloneMs: p50(sides.alone.flat()),
    bareMs: p50(sides.bare.flat()),
    overBare: round(p50(sides.alone.map((taken, i) => p50(taken) / p50(sides.bare[i]))), 4),
  };
}

function cut(text: string): string[] {
  const chunks: string[] = [];
  for (let at = 0; at < text.length; ) {
    const size = 1 + Math.floor(random() * 12);
    chunks.push(text.slice(at, at + size));
    at += size;
  }
  return chunks;
}

function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return state / 2 ** 32;
  };
}
