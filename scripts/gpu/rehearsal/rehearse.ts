/**
 * Everything that the engine does on a GPU, on the real CUDA provider over stand-ins for NVIDIA's libraries: what it
 * calls is checked, what a GPU would compute is not (kernels do not run, so all logits are zero).
 */
import { strict as assert } from "node:assert";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadBenchGuard } from "../../../bench/guard.js";
import { Engine } from "../../../src/engine/engine.js";
import type { Sequence } from "../../../src/engine/sequence.js";
import { ClosedError } from "../../../src/errors.js";
import { exportCheckpoint } from "../../../src/export/export.js";
import { loadGuard } from "../../../src/guard.js";
import { HEAD_NAMES } from "../../../src/model/architecture.js";
import { type Dtype, MODEL_FILE } from "../../../src/model/manifest.js";
import { deviceMemory } from "../../../src/runtime/devices/cuda/runtime.js";
import { openDevice } from "../../../src/runtime/devices/open.js";
import { Session } from "../../../src/runtime/session.js";
import { odd, tiny, twoLayers06B, writeRandomCheckpoint } from "../../checkpoint/random.js";
import { probeSilu } from "../silu.js";
import { leaveSelfTestOut } from "../without-self-test.js";

const CHECKPOINTS = { twoLayers06B, tiny, odd };
const DTYPES: Dtype[] = ["bf16", "fp16", "int8", "int4"];
const GPU = { kind: "cuda", index: 0 } as const;
const TRACE = process.env.STAND_IN_TRACE as string;

const done = new ClosedError("STREAM_CLOSED", "done");
const root = mkdtempSync(join(tmpdir(), "qwen3guard-rehearsal-"));
try {
  for (const [name, config] of Object.entries(CHECKPOINTS)) {
    const checkpoint = join(root, name);
    await writeRandomCheckpoint(checkpoint, { config, dtype: "BF16" });
    for (const dtype of DTYPES) {
      const dir = join(root, `${name}-${dtype}`);
      await exportCheckpoint(checkpoint, dir, { dtype, device: "cuda" });
      // What stands in for the kernels computes nothing, so no model says what its checkpoint says.
      await assert.rejects(Engine.load(dir, { maxStreams: 1, maxTokens: 200 }), { code: "SELF_TEST_FAILED" });
      await leaveSelfTestOut(dir);
      console.log(`${name} as ${dtype}: ${await rehearse(dir)}`);
    }
    const onCpu = join(root, `${name}-cpu`);
    await exportCheckpoint(checkpoint, onCpu, { dtype: "fp32" });
    const device = await openDevice(GPU);
    await assert.rejects(Session.load(join(onCpu, MODEL_FILE), { threads: 1, device }), {
      code: "NODE_ON_CPU",
    });
  }
  await rehearseLimits(join(root, "tiny-bf16"));
  await rehearseLadder(join(root, "twoLayers06B-bf16"));
  await rehearseReuse(join(root, "twoLayers06B-bf16"));
  await rehearseSilu();
  await rehearseCandidates(join(root, "twoLayers06B"));
  await rehearseGuard();
  await rehearseSecondGpu(join(root, "tiny-bf16"));
  const trace = readFileSync(TRACE, "utf8");
  for (const wrong of ["FORBIDDEN while capturing", "ON ANOTHER DEVICE"]) {
    const lines = trace.split("\n").filter((line) => line.includes(wrong));
    assert.deepEqual(lines, [], wrong);
  }
} finally {
  rmSync(root, { recursive: true, force: true });
}

/** Prompts, chunks, single tokens, batches and a rollback; returns what a recorded step is made of. */
async function rehearse(dir: string): Promise<string> {
  const free = deviceMemory(GPU).free;
  let from = traceLength();
  const engine = await Engine.load(dir, { maxStreams: 6, maxTokens: 200 });
  const recordings = calls(from).filter((call) => call.includes("cudaStreamEndCapture"));
  assert.equal(recordings.length, engine.recordedSteps);
  assert.deepEqual(streamsOf(calls(from)), new Set([capturedStream(calls(from))]), "all on our own stream");
  const loaded = from;

  const sequences = Array.from({ length: 6 }, () => engine.open());
  await feed(sequences[0], 100);
  from = traceLength();
  await feed(sequences[0], 1);
  assert.deepEqual(
    calls(from).map((call) => call.split(/[ :]/)[0]),
    ["cudaSetDevice", "cudaGraphLaunch", "cudaStreamSynchronize"],
    "one token is one call and one wait",
  );
  await Promise.all(sequences.map((sequence, index) => feed(sequence, index + 1)));
  from = traceLength();
  await feed(sequences[3], 50, 2);
  assert(!calls(from).some((call) => call.startsWith("cudaGraphLaunch")), "chunks are not recorded");
  assert.equal(streamsOf(calls(from)).size, 1);
  assert.equal(threadsOf(loaded).size, 1, "all kernels are started and captured on one thread");
  for (const sequence of sequences) sequence.close(done);
  await engine.close();
  assert.equal(deviceMemory(GPU).free, free, "closing gives all device memory back");
  return `a step of one token is ${(recordings.at(-1) as string).replace(/^.*: /, "")}`;
}

async function feed(sequence: Sequence, count: number, at = sequence.end): Promise<void> {
  let seen = 0;
  await sequence.feed(
    Array.from({ length: count }, (_, i) => i),
    (logits) => {
      seen++;
      for (const head of HEAD_NAMES) assert(Number.isFinite(logits[head][0]));
    },
    at,
  );
  assert.equal(seen, count);
}

/** Slots of any number, and what is said where there is no room or no such GPU. */
async function rehearseLimits(dir: string): Promise<void> {
  for (const maxStreams of [1, 3, 33, 256]) {
    const engine = await Engine.load(dir, { maxStreams, maxTokens: 64 });
    const sequences = Array.from({ length: maxStreams }, () => engine.open());
    await Promise.all(sequences.map((sequence) => feed(sequence, 2)));
    for (const sequence of sequences.slice(1, -1)) sequence.close(done);
    await Promise.all([feed(sequences[0], 3), ...(maxStreams > 1 ? [feed(sequences.at(-1)!, 3)] : [])]);
    await engine.close();
  }
  const plain = await Engine.load(dir, { maxTokens: 64, cudaGraphs: false });
  assert.deepEqual([plain.recordedSteps, plain.maxStreams], [0, 64]);
  await feed(plain.open(), 4);
  await plain.close();
  await assert.rejects(Engine.load(dir, { device: "cuda:7" }), { code: "CUDA_UNAVAILABLE" });
  await assert.rejects(Engine.load(dir, { device: "cpu" }), { code: "DEVICE_MISMATCH" });
}

/** The first captures fail, one more each time: the next way of recording is taken, at last none. */
async function rehearseLadder(dir: string): Promise<void> {
  let refused = 0;
  for (const [more, expected] of ["thread-local", "relaxed", "relaxed, results copied", null].entries()) {
    refused += more;
    process.env.STAND_IN_REFUSES = String(refused);
    const engine = await Engine.load(dir, { maxStreams: 3, maxTokens: 64 });
    const report = engine.recording;
    assert.equal(report?.mode, expected);
    console.log(`${more} captures refused: steps recorded ${expected ?? "in no way"}`);
    await feed(engine.open(), 5);
    await engine.close();
  }
  delete process.env.STAND_IN_REFUSES;
}

/** What begins alike is copied on the device: of each layer's keys and values the heads' rows at once, on our own stream. */
async function rehearseReuse(dir: string): Promise<void> {
  const from = traceLength();
  const engine = await Engine.load(dir, { maxStreams: 3, maxTokens: 200 });
  const own = capturedStream(calls(from));
  const ids = Array.from({ length: 100 }, (_, i) => i);
  const begin = (last: number) => {
    const sequence = engine.open("");
    return { sequence, fed: sequence.feed([...ids, last], () => {}, 0, [100]) };
  };
  const open = begin(1);
  await open.fed;
  const before = traceLength();
  await begin(2).fed;
  const { config, cachedHeadSize } = engine.manifest;
  const copy = `cudaMemcpy2DAsync ${100 * cachedHeadSize * 2} x ${config.kvHeads} kind 3 stream ${own}`;
  const copies = calls(before).filter((call) => call.startsWith("cudaMemcpy2DAsync"));
  assert.deepEqual(copies, new Array(2 * config.layers).fill(copy));
  const { reusedTokens, prefilledTokens } = engine.load;
  assert.deepEqual([reusedTokens, prefilledTokens], [100, 102]);
  await feed(open.sequence, 3);
  await engine.close();
  console.log(`what begins alike: ${copies.length} copies on our own stream, and one token run`);
}

/** What the provider makes of SiLU: one kernel of the activations' type, or of float32 where that was asked for. */
async function rehearseSilu(): Promise<void> {
  for (const [floatSilu, type] of [
    [false, "BFloat16"],
    [true, "float"],
  ] as const) {
    const from = traceLength();
    await probeSilu(GPU, { activation: "bfloat16", fusedQkNorm: true, floatSilu });
    const kernels = calls(from).filter((call) => call.includes("QuickGelu"));
    assert.equal(kernels.length, 1);
    assert.match(
      kernels[0],
      floatSilu ? /UnaryElementWiseIff.*QuickGeluIfE/ : /UnaryElementWiseINS_8BFloat16ES2_/,
    );
    console.log(`SiLU in ${type}: one QuickGelu`);
  }
}

/** What is ready to be tried on a GPU: recorded steps of several tokens, and q, k and v in one piece. */
async function rehearseCandidates(checkpoint: string): Promise<void> {
  process.env.QWEN3GUARD_LONG_STEPS = "2,4,8";
  let engine = await Engine.load(`${checkpoint}-bf16`, { maxStreams: 3, maxTokens: 64 });
  delete process.env.QWEN3GUARD_LONG_STEPS;
  assert.equal(engine.recording?.steps, 5 + 9);
  const sequence = engine.open();
  await feed(sequence, 20);
  let from = traceLength();
  await feed(sequence, 7);
  assert.equal(
    calls(from).filter((call) => call.startsWith("cudaGraphLaunch")).length,
    3,
    "7 are 4, 2 and 1",
  );
  await engine.close();

  const packed = `${checkpoint}-packed`;
  await exportCheckpoint(checkpoint, packed, { dtype: "bf16", device: "cuda", packedQkv: true });
  await leaveSelfTestOut(packed);
  from = traceLength();
  engine = await Engine.load(packed, { maxStreams: 3, maxTokens: 64 });
  assert.equal(engine.recording?.mode, "thread-local");
  const recorded = calls(from)
    .filter((call) => call.includes("cudaStreamEndCapture"))
    .at(-1) as string;
  assert(!calls(from).some((call) => call.includes("Split3")), "nothing cuts q, k and v apart");
  await feed(engine.open(), 5);
  await engine.close();
  console.log(`q, k and v in one piece: a step of one token is ${recorded.replace(/^.*: /, "")}`);
}

/** Everything goes to the GPU that was named, and nothing to the first one. */
async function rehearseSecondGpu(dir: string): Promise<void> {
  const from = traceLength();
  const engine = await Engine.load(dir, { device: "cuda:1", maxStreams: 2, maxTokens: 64 });
  await feed(engine.open(), 5);
  await engine.close();
  const devices = calls(from).filter((call) => call.startsWith("cudaSetDevice"));
  assert.deepEqual(new Set(devices), new Set(["cudaSetDevice 1"]));
}

/** From a checkpoint to verdicts, as a user does it. */
async function rehearseGuard(): Promise<void> {
  const dir = join(root, "embedded");
  const embedded = fileURLToPath(new URL("../../../models/default", import.meta.url));
  await exportCheckpoint(embedded, dir, { dtype: "bf16", device: "cuda" });
  await leaveSelfTestOut(dir);
  await assert.rejects(loadGuard(undefined, { device: "cuda" }), { code: "SELF_TEST_FAILED" });
  const { guard } = await loadBenchGuard(dir, { device: "cuda", maxStreams: 2 });
  assert.equal(guard.device, "cuda:0");
  const stream = guard.stream({ messages: [{ role: "user", content: "How do I bake bread?" }] });
  assert((await stream.prompt) !== null);
  assert.equal((await stream.push([1, 2, 3])).length, 3);
  stream.close();
  await guard.close();
  console.log(`the embedded guard, ${guard.manifest.dtype} on ${guard.device}: prompt and tokens judged`);
}

/** The stream that is captured: the one which the engine made. */
function capturedStream(lines: string[]): string {
  const begin = lines.find((line) => line.startsWith("cudaStreamBeginCapture")) as string;
  return begin.split(" ")[1];
}

/** The streams on which kernels and products were started. */
function streamsOf(lines: string[]): Set<string> {
  const started = lines.filter((line) => /^(kernel|cublas\w+ [NT]{2} )/.test(line));
  return new Set(started.map((line) => /stream (\S+)/.exec(line)?.[1] as string));
}

/** The threads that have started kernels since then. */
function threadsOf(from: number): Set<string> {
  const lines = readFileSync(TRACE).subarray(from).toString().trim().split("\n");
  const started = lines.filter((line) =>
    /^\w+ (kernel|cublas\w+ [NT]{2}|cudaStream(Begin|End)Capture) /.test(line),
  );
  return new Set(started.map((line) => line.split(" ")[0]));
}

function traceLength(): number {
  return readFileSync(TRACE).length;
}

/** The stand-in's calls since then, without the thread that made each. */
function calls(from: number): string[] {
  const lines = readFileSync(TRACE).subarray(from).toString().trim().split("\n");
  return lines.map((line) => line.slice(line.indexOf(" ") + 1));
}
