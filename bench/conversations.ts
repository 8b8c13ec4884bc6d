/**
 * What does a conversation cost, turn by turn: read from the start each time, with what was read before used again, and
 * with the last answer read ahead as well? And many that begin alike: choices of one request, users of one assistant.
 * Whatever is compared takes turns, so that whatever else the machine does hits all alike. Each format in a process of its
 * own.
 *
 *   npm run bench -- conversations [--guards embedded,w8a8,int4-kv8,…] [--rounds 3] [--device cuda]
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { loadavg } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Engine, EngineOptions } from "../src/engine/engine.js";
import { sharedLength } from "../src/engine/prefix-cache.js";
import { type Ahead, ReadAhead } from "../src/engine/read-ahead.js";
import type { Guard } from "../src/guard.js";
import { resolveModel } from "../src/resolve-model.js";
import type { Message } from "../src/tokenizer/chat-template/messages.js";
import { assistant, question, reply, words } from "./conversation-text.js";
import { guardDir, loadBenchGuard } from "./guard.js";
import { report, resultPath } from "./report.js";
import { round, summarize } from "./stats.js";

const { values } = parseArgs({
  options: {
    /** "embedded", or formats of the random 0.6B shape. Default: those of the device. */
    guards: { type: "string" },
    device: { type: "string", default: "cpu" },
    rounds: { type: "string", default: "3" },
    turns: { type: "string", default: "6" },
    /** Single tokens of each side. */
    tokens: { type: "string", default: "240" },
    only: { type: "string" },
  },
});
const rounds = Number(values.rounds);
const TURNS = Number(values.turns);
const STREAMS = 16;
const CHOICES = 4;
/** Single tokens that one side takes before it is the other's turn. */
const BLOCK = 12;
/** Pairs of first turns: between two guards that were alike, sixty still gave a median of 0.985. */
const FIRST_TURNS = Math.max(24, 4 * rounds);

type Mode = "plain" | "reuse" | "ahead";
const MODES: Mode[] = ["plain", "reuse", "ahead"];
type Guards = Record<Mode, { guard: Guard; engine: Engine }>;

if (values.only) {
  console.log(`RESULT ${JSON.stringify(await measure(values.only))}`);
  process.exit(0);
}

const name = values.device === "cpu" ? "conversations" : `conversations-${values.device.replace(":", "-")}`;
const kept = existsSync(resultPath(name)) ? JSON.parse(readFileSync(resultPath(name), "utf8")) : {};
const guards: Record<string, unknown> = kept.guards ?? {};
const chosen = values.device === "cpu" ? "embedded,w8a8,w8a8-kv8,int4,int4-kv8,int8,fp32" : "bf16";
for (const one of (values.guards ?? chosen).split(",")) {
  const args = [...process.execArgv, fileURLToPath(import.meta.url), "--only", one, ...process.argv.slice(2)];
  // Guards of one file may have been measured at different hours.
  const measured = { date: new Date().toISOString(), loadBefore: loadavg()[0] };
  const out = execFileSync(process.execPath, args, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  guards[one] = { measured, ...JSON.parse(/^RESULT (.*)$/m.exec(out)![1]) };
  console.log(one, JSON.stringify(guards[one]));
  report("conversations", { guards }, values.device);
}

async function measure(which: string) {
  const model = which === "embedded" ? { model: which } : { dtype: which };
  const dir = (await guardDir({ device: values.device, ...model })) ?? (await resolveModel(undefined, {}));
  const load = (options: EngineOptions) =>
    loadBenchGuard(dir, {
      device: values.device as EngineOptions["device"],
      maxStreams: STREAMS,
      maxTokens: 2048,
      prefixCache: {},
      ...options,
    });
  const loaded: Guards = {
    plain: await load({ prefixCache: false }),
    reuse: await load({}),
    ahead: await load({}),
  };
  const result = {
    turns: await conversation(loaded),
    together: await together(loaded.reuse.guard),
    choices: await choices(loaded.reuse.guard),
    // Behind the others: a slot's memory is taken when it is first used, once and for all.
    firstTurn: await firstTurns(loaded),
    token: await singleTokens(loaded),
  };
  for (const { guard } of Object.values(loaded)) await guard.close();
  return result;
}

/** Milliseconds from a turn's question to its prompt's verdict. */
async function conversation(guards: Guards) {
  const times = Array.from({ length: TURNS }, () => ({ plain: [], reuse: [], ahead: [] }) as Times);
  const tokens: number[] = [];
  const ran: Record<Mode, number[]> = { plain: [], reuse: [], ahead: [] };
  // As a guard does that was asked to, but whatever random weights make of the answer.
  const ahead = new ReadAhead(guards.ahead.engine);
  for (const { guard } of Object.values(guards))
    (await asked(guard, [assistant(30, "Warm.")], ""))[1].close();
  for (let count = 0; count < rounds; count++) {
    let messages: Message[] = [assistant(300, `Round ${count}.`)];
    for (let turn = 0; turn < TURNS; turn++) {
      messages = [...messages, { role: "user", content: question(turn) }];
      for (const mode of rotated(MODES, turn + count)) {
        const { guard } = guards[mode];
        const before = guard.load.prefilledTokens;
        const key = `conversation ${count}`;
        const [ms, stream] = await asked(guard, messages, key);
        ran[mode][turn] = guard.load.prefilledTokens - before;
        times[turn][mode].push(ms);
        await stream.pushText(reply(turn));
        await stream.end();
        if (mode !== "ahead") continue;
        // A user reads, and thinks of a question: meanwhile the answer is read.
        ahead.add(key, () => goingOn(guard, messages, reply(turn)));
        while (ahead.waiting > 0) await sleep(20);
      }
      tokens[turn] = guards.plain.guard.template.prefix(messages).ids.length;
      messages = [...messages, { role: "assistant", content: reply(turn) }];
    }
  }
  return times.map((of, turn) => ({
    tokens: tokens[turn],
    ran: Object.fromEntries(MODES.map((mode) => [mode, ran[mode][turn]])),
    ...Object.fromEntries(MODES.map((mode) => [mode, summarize(of[mode])])),
    reuseOverPlain: ratio(of.reuse, of.plain),
    aheadOverPlain: ratio(of.ahead, of.plain),
  }));
}

type Times = Record<Mode, number[]>;

async function goingOn(guard: Guard, messages: Message[], answer: string): Promise<Ahead> {
  const { ids, turns } = await guard.template.goingOn(guard.maxTokens, messages, answer);
  return { ids, reads: turns.map(({ end }) => end) };
}

/** A prompt that nothing was read of: with reuse and without. */
async function firstTurns({ plain, reuse }: Guards) {
  const sides = { plain: [] as number[], reuse: [] as number[] };
  for (let count = 0; count < FIRST_TURNS; count++) {
    for (const [side, { guard }] of rotated(Object.entries({ plain, reuse }), count)) {
      const messages = [assistant(150, `First ${count}.`), { role: "user", content: question(count) }];
      const [ms, stream] = await asked(guard, messages, `first ${count}`);
      sides[side as keyof typeof sides].push(ms);
      stream.close();
    }
  }
  return {
    plain: summarize(sides.plain),
    reuse: summarize(sides.reuse),
    ratio: ratio(sides.reuse, sides.plain),
  };
}

/** Users of one assistant ask at once: until all prompts are judged, over the time of one alone. */
async function together(guard: Guard) {
  const shared = assistant(620, "For all.");
  const asks = (i: number) => [shared, { role: "user", content: `Number ${i}?` }];
  const prefixes = [1, 2].map((i) => guard.template.prefix(asks(i)).ids);
  const sharedTokens = sharedLength(prefixes[0], prefixes[1]);
  const [one, all]: number[][] = [[], []];
  // The first touches memory that is there ever after, and opens what judges many in one run; the second tries that.
  for (let count = -1; count <= rounds; count++) {
    const ask = async (streams: number) => {
      const key = `${streams} ${count}`;
      const started = performance.now();
      // As a server has them: each request in a turn of the event loop of its own.
      const opened = await Promise.all(
        Array.from({ length: streams }, async (_, i) => {
          for (let turn = 0; turn < i; turn++) await new Promise(setImmediate);
          return asked(guard, asks(i), key);
        }),
      );
      const ms = performance.now() - started;
      for (const [, stream] of opened) stream.close();
      return ms;
    };
    const [alone, together] = [await ask(1), await ask(STREAMS)];
    if (count < 1) continue;
    one.push(alone);
    all.push(together);
  }
  return {
    streams: STREAMS,
    sharedTokens,
    ownTokens: prefixes[0].length - sharedTokens,
    one: summarize(one),
    all: summarize(all),
    ratio: ratio(all, one),
  };
}

/** Choices of one request: until all their prompts are judged, over the time of one choice. */
async function choices(guard: Guard) {
  const [one, all]: number[][] = [[], []];
  for (let count = 0; count < 2 * rounds; count++) {
    const ask = async (n: number) => {
      const messages = [assistant(300, "Choices."), { role: "user", content: question(count) }];
      const started = performance.now();
      const prompt = guard.prompt({ messages });
      const streams = Array.from({ length: n }, () => guard.stream({ prompt, cacheKey: `n ${n} ${count}` }));
      await Promise.all(streams.map((stream) => stream.prompt));
      const ms = performance.now() - started;
      for (const stream of streams) stream.close();
      return ms;
    };
    const [alone, several] = [await ask(1), await ask(CHOICES)];
    one.push(alone);
    all.push(several);
  }
  return { choices: CHOICES, one: summarize(one), all: summarize(all), ratio: ratio(all, one) };
}

/** A token of a stream alone, behind the same prompt. */
async function singleTokens({ plain, reuse }: Guards) {
  const messages = [assistant(60, "Tokens."), { role: "user", content: question(0) }];
  const sides = await Promise.all(
    [plain, reuse].map(async ({ guard }) => {
      const stream = guard.stream({ messages });
      await stream.prompt;
      return { stream, times: [] as number[] };
    }),
  );
  const ids = plain.guard.tokenizer.encode(words(2000));
  const blocks: number[] = [];
  for (let at = 0; at + BLOCK <= Number(values.tokens); at += BLOCK) {
    const taken = new Map<unknown, number[]>();
    for (const side of rotated(sides, at / BLOCK)) {
      const times: number[] = [];
      for (const id of ids.slice(at, at + BLOCK)) {
        const started = performance.now();
        await side.stream.push(id);
        times.push(performance.now() - started);
      }
      taken.set(side, times);
      if (at > 0) side.times.push(...times);
    }
    const [without, with_] = sides.map((side) => summarize(taken.get(side) as number[]).p50);
    if (at > 0) blocks.push(with_ / without);
  }
  for (const { stream } of sides) stream.close();
  const [without, with_] = sides.map(({ times }) => summarize(times));
  return { plain: without, reuse: with_, ratio: summarize(blocks).p50 };
}

/** Milliseconds until a prompt is judged, and its stream. */
async function asked(guard: Guard, messages: Message[], cacheKey: string) {
  const started = performance.now();
  const stream = guard.stream({ messages, cacheKey });
  await stream.prompt;
  return [performance.now() - started, stream] as const;
}

/** The median of the ratios of what took turns, and that of the least times. */
function ratio(of: number[], over: number[]): { p50: number; least: number } {
  const each = of.map((ms, i) => ms / over[i]);
  return { p50: summarize(each).p50, least: round(Math.min(...of) / Math.min(...over)) };
}

function rotated<T>(items: readonly T[], by: number): T[] {
  const at = by % items.length;
  return [...items.slice(at), ...items.slice(0, at)];
}
