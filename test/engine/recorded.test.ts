import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { tiny } from "../../scripts/checkpoint/random.js";
import { HEAD_NAMES, type HeadName } from "../../src/checkpoint/architecture.js";
import { BatchRunner } from "../../src/engine/batch.js";
import { KvCache } from "../../src/engine/cache.js";
import { HalvedRows } from "../../src/engine/rows.js";
import { Scheduler } from "../../src/engine/scheduler.js";
import { Sequence } from "../../src/engine/sequence.js";
import { ClosedError } from "../../src/errors.js";
import { MODEL_FILE, readManifest } from "../../src/export/manifest.js";
import type { ModelOutput } from "../../src/export/outputs.js";
import type { CudaGraph, CudaStream } from "../../src/ort/cuda/stream.js";
import koffi from "../../src/ort/ffi.js";
import { Memory } from "../../src/ort/memory.js";
import { CPU } from "../../src/ort/place.js";
import { Session } from "../../src/ort/session.js";
import { randomModel, readGolden } from "../support/model.js";

type Recorded = Record<HeadName, number[][]>;

const SLOTS = 6;
const MAX_TOKENS = 256;

/** A stream of the CPU: a graph does its work again when launched, with the host's numbers of when it was recorded. */
class ReplayStream {
  readonly place = CPU;
  readonly log: string[] = [];
  readonly #hostNumbers: () => Int32Array;

  constructor(hostNumbers: () => Int32Array) {
    this.#hostNumbers = hostNumbers;
  }

  upload(to: bigint, from: bigint, bytes: number): void {
    new Uint8Array(koffi.view(to, bytes)).set(new Uint8Array(koffi.view(from, bytes)));
  }

  capture(work: () => void): CudaGraph {
    const numbers = this.#hostNumbers();
    const recorded = Int32Array.from(numbers);
    this.log.push("capture");
    const launch = () => {
      this.log.push("launch");
      const now = Int32Array.from(numbers);
      numbers.set(recorded);
      work();
      numbers.set(now);
    };
    return { launch, release: () => {} } as CudaGraph;
  }

  async finished(): Promise<void> {
    this.log.push("finished");
  }
}

let golden: { ids: number[]; logits: Recorded };
let outputs: ModelOutput[];
let session: Session;
let stream: ReplayStream;
let runner: BatchRunner;
let cache: KvCache;
let scheduler: Scheduler;
let vocabSize: number;

beforeAll(async () => {
  golden = await readGolden("tiny");
  const { modelDir } = await randomModel({ config: tiny, dtype: "BF16" });
  const { config, cachedHeadSize: headDim, ...manifest } = await readManifest(modelDir);
  const { layers, kvHeads } = config;
  outputs = manifest.outputs;
  vocabSize = config.vocabSize;
  session = await Session.load(join(modelDir, MODEL_FILE), { threads: 1 });
  const capacity = MAX_TOKENS + 1;
  cache = new KvCache({ layers, kvHeads, headDim, type: "float32", slots: SLOTS, capacity }, CPU);

  const allocate = vi.spyOn(Memory, "allocate");
  stream = new ReplayStream(() => {
    const total = allocate.mock.results.find(({ value }) => value.bytes === 4)!.value as Memory;
    return new Int32Array(total.view());
  });
  Object.defineProperty(session, "stream", { value: stream as unknown as CudaStream });
  runner = new BatchRunner(session, cache, outputs, MAX_TOKENS);
  const rows = new HalvedRows(SLOTS, 100);
  await runner.warmUp(MAX_TOKENS);
  await runner.record(rows.ranges());
  expect(runner.recorded).toBe(rows.ranges().length);
  const chunks = { sharedChunk: 32, loneChunk: 64, fewTokens: 4 };
  scheduler = new Scheduler(runner, cache, { maxWaiting: 8, rows, ...chunks });
});

afterAll(async () => {
  await scheduler.stop();
  runner.release();
  Object.defineProperty(session, "stream", { value: null });
  session.release();
  cache.free();
});

test("single tokens are recorded steps, and give the golden logits", async () => {
  stream.log.length = 0;
  expectGolden(await judge(1));
  expect(new Set(stream.log)).toEqual(new Set(["launch", "finished"]));
  expect(stream.log.length).toBe(2 * golden.ids.length);
});

test("chunks are not recorded; few tokens go one by one", async () => {
  stream.log.length = 0;
  expectGolden(await judge(32));
  expect(stream.log.filter((entry) => entry === "launch")).toEqual([]);
  stream.log.length = 0;
  expectGolden(await judge(4));
  expect(stream.log.filter((entry) => entry === "launch").length).toBe(golden.ids.length);
});

test("many streams at different lengths share recorded steps", async () => {
  const judged = await Promise.all([1, 2, 3, 4, 5, 7].map((chunk) => judge(chunk)));
  for (const recorded of judged) expectGolden(recorded);
});

async function judge(chunk: number): Promise<Recorded> {
  const sequence = new Sequence({ maxTokens: MAX_TOKENS, vocabSize, outputs }, scheduler);
  scheduler.admit(sequence);
  const record: Recorded = { promptRisk: [], promptCategory: [], responseRisk: [], responseCategory: [] };
  for (let at = 0; at < golden.ids.length; at += chunk) {
    await sequence.feed(golden.ids.slice(at, at + chunk), (logits, index, position) => {
      for (const { name, width } of outputs) {
        const head = name as HeadName;
        record[head][position] = [...logits[head].subarray(index * width, (index + 1) * width)];
      }
    });
  }
  sequence.close(new ClosedError("STREAM_CLOSED", "done"));
  return record;
}

function expectGolden(recorded: Recorded): void {
  for (const head of HEAD_NAMES) {
    expect(recorded[head].length).toBe(golden.ids.length);
    const distances = recorded[head].flatMap((row, i) =>
      row.map((x, j) => Math.abs(x - golden.logits[head][i][j])),
    );
    expect(Math.max(...distances), head).toBeLessThan(1e-3);
  }
}
