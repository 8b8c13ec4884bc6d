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
import { MODEL_FILE } from "../../src/export/manifest.js";
import type { ModelOutput } from "../../src/export/outputs.js";
import { readManifest } from "../../src/export/read-manifest.js";
import { cpu } from "../../src/ort/devices/cpu.js";
import type { Device, Recording } from "../../src/ort/devices/device.js";
import type { Memory } from "../../src/ort/memory.js";
import { Session } from "../../src/ort/session.js";
import { randomModel, readGolden } from "../support/model.js";

type Recorded = Record<HeadName, number[][]>;

const SLOTS = 6;
const MAX_TOKENS = 256;

/** The CPU as a device that records: a recording does its work again, with the host's numbers of when it was made. */
class RecordingCpu {
  readonly log: string[] = [];
  readonly device: Device = {
    ...cpu,
    upload: (to, from, bytes) =>
      new Uint8Array(to.view()).set(new Uint8Array(from.view()).subarray(0, bytes)),
    record: (work) => this.#record(work),
  };
  readonly #hostNumbers: () => Int32Array;

  constructor(hostNumbers: () => Int32Array) {
    this.#hostNumbers = hostNumbers;
  }

  #record(work: () => void): Recording {
    const numbers = this.#hostNumbers();
    const recorded = Int32Array.from(numbers);
    this.log.push("record");
    const run = async () => {
      const now = Int32Array.from(numbers);
      numbers.set(recorded);
      work();
      numbers.set(now);
      this.log.push("run");
    };
    return { run, release: () => {} };
  }
}

let golden: { ids: number[]; logits: Recorded };
let outputs: ModelOutput[];
let session: Session;
let recorder: RecordingCpu;
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
  const allocate = vi.spyOn(cpu, "allocate");
  recorder = new RecordingCpu(() => {
    const total = allocate.mock.results.find(({ value }) => value.bytes === 4)!.value as Memory;
    return new Int32Array(total.view());
  });
  session = await Session.load(join(modelDir, MODEL_FILE), { threads: 1, device: recorder.device });
  const capacity = MAX_TOKENS + 1;
  cache = new KvCache({ layers, kvHeads, headDim, type: "float32", slots: SLOTS, capacity }, cpu);

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
  session.release();
  cache.free();
});

test("single tokens are recorded steps, and give the golden logits", async () => {
  recorder.log.length = 0;
  expectGolden(await judge(1));
  expect(new Set(recorder.log)).toEqual(new Set(["run"]));
  expect(recorder.log.length).toBe(golden.ids.length);
});

test("chunks are not recorded; few tokens go one by one", async () => {
  recorder.log.length = 0;
  expectGolden(await judge(32));
  expect(recorder.log.filter((entry) => entry === "run")).toEqual([]);
  recorder.log.length = 0;
  expectGolden(await judge(4));
  expect(recorder.log.filter((entry) => entry === "run").length).toBe(golden.ids.length);
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
