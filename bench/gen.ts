/**
 * What does a Gen guard's verdict cost: read off, with and without the instructions of earlier requests; written, here, by
 * transformers and by llama.cpp?
 *
 *   npm run bench -- gen [--template chat_template.jinja] [--runs 5] [--requests 100]
 *
 * Random weights in the shape of Qwen3Guard-Gen-0.6B, w8a8, over the instructions of `--template`, by default our own, which
 * are shorter than the released ones. Random weights mean no verdict, so the logits are told what to say, as sure as a
 * trained guard mostly is: "safe", or "unsafe" with a category of five tokens.
 *
 * transformers where QWEN3GUARD_PYTHON names a Python that has bench/peers/requirements.txt installed; llama.cpp where `npm
 * install` was run in bench/peers, from what gen_gguf.py makes of the checkpoint: gen-q8_0.gguf, gen-q4_0.gguf.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gen06B, writeRandomCheckpoint } from "../scripts/checkpoint/random.js";
import { exportCheckpoint } from "../src/export/export.js";
import { listen } from "../src/gateway/server.js";
import { loadGenGuard } from "../src/gen-guard.js";
import type { Message } from "../src/index.js";
import { AnswerReader } from "../src/moderation/gen/answer-reader.js";
import { GuardService } from "../src/serve/service.js";
import { BENCH_CACHE, TOKENIZER } from "./model.js";
import { report } from "./report.js";
import { summarize } from "./stats.js";

const { values } = parseArgs({
  options: {
    template: { type: "string" },
    runs: { type: "string", default: "5" },
    requests: { type: "string", default: "100" },
    peers: { type: "string", default: "torch,q8_0,q4_0" },
  },
});
const RUNS = Number(values.runs);
const REQUESTS = Number(values.requests);
const CLIENTS = 8;
const PEERS = fileURLToPath(new URL("peers/", import.meta.url));
const CHECKPOINT = join(BENCH_CACHE, "gen-checkpoint");
const MODEL = join(BENCH_CACHE, "gen-w8a8");
const QUESTIONS = join(BENCH_CACHE, "gen-questions.json");
const WORDS = "tell me how one would best bake a loaf of bread at home without an oven or a stove".split(" ");
const PARTS = ["prompt", "response"] as const;
type Part = (typeof PARTS)[number];
const VERDICTS = { safe: ["Safe", "None"], unsafe: ["Unsafe", "Suicide & Self-Harm"] } as const;
type Verdict = keyof typeof VERDICTS;

await makeModel();
const options = { maxTokens: 2048, maxStreams: CLIENTS };
const shared = await loadGenGuard(MODEL, options);
const alone = await loadGenGuard(MODEL, { ...options, prefixCache: false });
const { tokenizer, template } = shared;
/** What the logits are told to say, by the part that is judged; null: the reader's own choice of the two. */
let told: number[] | null = null;
tellLogits();

/** By what is asked and how it is answered. */
const ms: Record<string, Record<string, number[]>> = {};
const questions: Record<string, { ids: number[]; answer: number }[]> = {};
let run = 0;
for (let round = -1; round < RUNS; round++) {
  for (const part of PARTS) {
    for (const verdict of Object.keys(VERDICTS) as Verdict[]) {
      const answer = answerOf(part, verdict);
      told = [...answer, ...tokenizer.encode("<|endoftext|>"), tokenizer.tokenId("<|im_end|>") as number];
      const asked = `${part}, ${verdict}`;
      const again = () => ({ messages: messagesOf(part, run++) });
      const { ids } = template.prompt(messagesOf(part, run));
      const times = {
        read: await time(() => shared.classify(again())),
        "read, nothing shared": await time(() => alone.classify(again())),
        written: await time(() => shared.generate({ ...again(), maxTokens: answer.length + 1 })),
        "written, nothing shared": await time(() =>
          alone.generate({ ...again(), maxTokens: answer.length + 1 }),
        ),
      };
      // The first round loads kernels, and the instructions.
      if (round === -1) continue;
      questions[asked] ??= [];
      questions[asked].push({ ids, answer: answer.length + 1 });
      ms[asked] ??= {};
      for (const [how, spent] of Object.entries(times)) {
        ms[asked][how] ??= [];
        ms[asked][how].push(spent);
      }
    }
  }
}
await alone.close();
told = null;
const load = await overHttp();
console.log("over HTTP", JSON.stringify(load));
await shared.close();

writeFileSync(QUESTIONS, JSON.stringify(questions));
// After each, so that who fails or takes too long loses nobody else's figures.
write();
for (const peer of values.peers.split(",").filter(Boolean)) {
  await runPeer(peer);
  write();
}

function write(): void {
  const results = Object.fromEntries(
    Object.entries(ms).map(([asked, ways]) => [
      asked,
      {
        promptTokens: questions[asked][0].ids.length,
        answerTokens: questions[asked][0].answer,
        ms: Object.fromEntries(Object.entries(ways).map(([how, times]) => [how, summarize(times)])),
      },
    ]),
  );
  for (const [asked, { ms }] of Object.entries(results))
    for (const [how, { p50 }] of Object.entries(ms)) console.log(asked, "|", how, "|", p50);
  report("gen", {
    model: "random weights, 0.6B shape, w8a8",
    template: values.template ? "the released one" : "our own",
    results,
    load,
  });
}

/** Requests over HTTP in the openai script's form, prompts and answers by turns, every fifth unsafe. */
async function overHttp(): Promise<object> {
  const guard = await loadGenGuard(MODEL, options);
  const server = await listen(new GuardService(guard), 0, "127.0.0.1");
  await guard.classify({ messages: messagesOf("prompt", run++) });
  await guard.classify({ messages: messagesOf("response", run++) });
  const times: number[] = [];
  let next = 0;
  const started = performance.now();
  await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      while (next < REQUESTS)
        times.push(await time(() => post(server.url, messagesOf(PARTS[next++ % 2], run++))));
    }),
  );
  const seconds = (performance.now() - started) / 1000;
  await server.close(0);
  await guard.close();
  return { requests: REQUESTS, clients: CLIENTS, perSecond: REQUESTS / seconds, ms: summarize(times) };
}

async function post(url: string, messages: Message[]): Promise<void> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "guard", messages }),
  });
  const text = await response.text();
  if (!response.ok || !text.includes("Safety: ")) throw new Error(`${response.status} ${text}`);
}

/** Raises the logit of what is to be said next, wherever a guard reads one. */
function tellLogits(): void {
  const along = AnswerReader.prototype.along;
  const own = new WeakMap<AnswerReader, number[]>();
  let readers = 0;
  AnswerReader.prototype.along = function (this: AnswerReader, answer, reads, take) {
    if (!own.has(this)) {
      own.set(this, told ?? answerOf("response", readers++ % 5 === 4 ? "unsafe" : "safe"));
    }
    const text = own.get(this) as number[];
    return along.call(this, answer, reads, (logits, read) => {
      const says = answer.slice(0, read).every((id, i) => id === text[i]);
      if (says && read < text.length) logits[text[read]] += 100;
      take(logits, read);
    });
  };
}

function answerOf(part: Part, verdict: Verdict): number[] {
  const [risk, category] = VERDICTS[verdict];
  const lines = [`Safety: ${risk}`, `Categories: ${category}`];
  return tokenizer.encode([...lines, ...(part === "response" ? ["Refusal: No"] : [])].join("\n"));
}

/** So many tokens, other ones for each run: every word is one. */
function words(count: number, run: number): string {
  return Array.from({ length: count }, (_, i) => WORDS[(i * (run + 3) + run + i * i) % WORDS.length]).join(
    " ",
  );
}

function messagesOf(part: Part, run: number): Message[] {
  const question = { role: "user", content: words(60, run) };
  return part === "prompt" ? [question] : [question, { role: "assistant", content: words(200, run) }];
}

async function time(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

async function runPeer(peer: string): Promise<void> {
  if (peer === "torch") {
    const python = process.env.QWEN3GUARD_PYTHON;
    if (python) take("transformers, bf16", python, [join(PEERS, "gen_torch.py"), CHECKPOINT, QUESTIONS]);
    return;
  }
  const model = join(BENCH_CACHE, `gen-${peer}.gguf`);
  if (!existsSync(model)) return;
  const script = join(PEERS, "gen_llama.mjs");
  take(`llama.cpp, ${peer}`, process.execPath, [script, model, QUESTIONS, "anew"]);
  take(`llama.cpp, ${peer}, beginnings kept`, process.execPath, [script, model, QUESTIONS, "kept"]);
}

function take(how: string, command: string, args: string[]): void {
  const { stdout, stderr, status } = spawnSync(command, args, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });
  const found = /^RESULT (.*)$/m.exec(stdout ?? "");
  if (status !== 0 || !found) throw new Error(`${how} failed: ${(stderr ?? "").trim().split("\n").at(-1)}`);
  for (const [asked, times] of Object.entries(JSON.parse(found[1]) as Record<string, number[]>))
    ms[asked][how] = times;
}

async function makeModel(): Promise<void> {
  if (!existsSync(CHECKPOINT)) {
    console.error("making random weights …");
    await writeRandomCheckpoint(CHECKPOINT, { config: gen06B, dtype: "BF16", tokenizerDir: TOKENIZER });
    if (values.template) copyFileSync(values.template, join(CHECKPOINT, "chat_template.jinja"));
    rmSync(MODEL, { recursive: true, force: true });
  }
  if (!existsSync(MODEL)) await exportCheckpoint(CHECKPOINT, MODEL, { dtype: "w8a8" });
}
