/**
 * Does a Gen guard say what transformers says? The checkpoints of the tests, held against their golden verdicts, and what a
 * verdict takes in the shape of Qwen3Guard-Gen-0.6B: the first of a length, and the next ones.
 *
 *   npx tsx scripts/gpu/gen-parity.ts [--device cuda] [--dtype bf16] [--requests 12] [--out FILE] [--no-graphs]
 *
 * --requests 0 leaves the times out. Exit code 1 where a limit is broken.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { copyFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { exportCheckpoint } from "../../src/export/export.js";
import { type GenGuard, loadGenGuard } from "../../src/gen-guard.js";
import type { Dtype } from "../../src/model/manifest.js";
import { type DeviceName, parseDevice } from "../../src/runtime/devices/device-id.js";
import type { Message } from "../../src/tokenizer/chat-template/messages.js";
import { gen06B, genOdd, genTiny, writeRandomCheckpoint } from "../checkpoint/random.js";

interface Verdict {
  messages: Message[];
  text: string;
  risk: number[];
}

const { values } = parseArgs({
  options: {
    device: { type: "string", default: "cuda" },
    dtype: { type: "string" },
    requests: { type: "string", default: "12" },
    out: { type: "string" },
    "no-graphs": { type: "boolean", default: false },
  },
});
const asked = parseDevice(values.device);
if (asked === "auto") throw new RangeError("Name the device: cpu, cuda or cuda:N.");
const { kind } = asked;
const dtype = (values.dtype ?? (kind === "cpu" ? "fp32" : "bf16")) as Dtype;
/** How far the probability of a risk may be off. 16-bit types: an estimate, where logits move by a few hundredths. */
const LIMIT = dtype === "fp32" ? 0.001 : 0.06;

const work = await mkdtemp(join(tmpdir(), "qwen3guard-gen-parity-"));
const results: Record<string, object> = {};
let broken = false;
try {
  for (const name of ["genTiny", "genOdd", "gen-trained"]) results[name] = await compare(name);
  if (Number(values.requests) > 0) results.times = await times(Number(values.requests));
} finally {
  await rm(work, { recursive: true, force: true });
}
if (values.out) {
  mkdirSync(dirname(values.out), { recursive: true });
  const found = { device: values.device, dtype, limit: LIMIT, broken, results };
  writeFileSync(values.out, `${JSON.stringify(found, null, 1)}\n`);
}
console.log(broken ? "PARITY BROKEN" : "parity holds");
process.exitCode = broken ? 1 : 0;

async function compare(name: string): Promise<object> {
  const checkpoint = join(work, name);
  await writeRandomCheckpoint(checkpoint, { config: name === "genOdd" ? genOdd : genTiny, dtype: "BF16" });
  if (name === "gen-trained") {
    for (const part of ["config.json", "model.safetensors"])
      await copyFile(file(`../../test/golden/${name}/${part}`), join(checkpoint, part));
  }
  const { verdicts }: { verdicts: Verdict[] } = JSON.parse(
    await readFile(file(`../../test/golden/${name}.json`), "utf8"),
  );
  const guard = await load(checkpoint);
  const distances: number[] = [];
  let same = 0;
  for (const { messages, text, risk } of verdicts) {
    const { probabilities, text: found } = await guard.classify({ messages });
    distances.push(Math.max(...risk.map((p, i) => Math.abs(p - probabilities.risk[i]))));
    if (found === text) same++;
  }
  await guard.close();
  const largest = Math.max(...distances);
  const holds = largest <= LIMIT;
  broken ||= !holds;
  console.log(
    `${name}: a risk is at most ${largest.toPrecision(3)} off, ${same} of ${verdicts.length} texts are the same`,
  );
  return { verdicts: verdicts.length, sameText: same, largest, holds };
}

/** Milliseconds of a verdict on answers of different lengths, one after the other. */
async function times(requests: number): Promise<object> {
  const checkpoint = join(work, "gen06B");
  await writeRandomCheckpoint(checkpoint, { config: gen06B, dtype: "BF16" });
  const begun = performance.now();
  const guard = await load(checkpoint);
  const loadMs = Math.round(performance.now() - begun);
  const verdictsMs: number[] = [];
  for (let i = 0; i < requests; i++) {
    const content = "tell me how one would bake a loaf of bread ".repeat(1 + ((i * 7) % 20));
    const start = performance.now();
    await guard.classify({ messages: [{ role: "user", content: `${i} ${content}` }] });
    verdictsMs.push(Number((performance.now() - start).toFixed(1)));
  }
  await guard.close();
  console.log(`0.6B: exported and loaded in ${loadMs} ms, verdicts in ${verdictsMs.join(", ")} ms`);
  return { loadMs, verdictsMs };
}

async function load(checkpoint: string): Promise<GenGuard> {
  const model = `${checkpoint}-${dtype}`;
  await exportCheckpoint(checkpoint, model, { dtype, device: kind });
  const cudaGraphs = !values["no-graphs"];
  return loadGenGuard(model, { device: values.device as DeviceName, maxStreams: 4, cudaGraphs });
}

function file(path: string): string {
  return fileURLToPath(new URL(path, import.meta.url));
}
