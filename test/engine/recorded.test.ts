import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { tiny } from "../../scripts/checkpoint/random.js";
import { BatchRunner } from "../../src/engine/batch.js";
import { KvCache } from "../../src/engine/cache.js";
import { GuestRuns } from "../../src/engine/guest-runs.js";
import { type RecordingReport, recordSteps } from "../../src/engine/recording.js";
import { BuddyRanges } from "../../src/engine/rows.js";
import { Scheduler } from "../../src/engine/scheduler.js";
import { Sequence } from "../../src/engine/sequence.js";
import { ClosedError } from "../../src/errors.js";
import { HEAD_NAMES, type HeadName } from "../../src/model/architecture.js";
import { MODEL_FILE } from "../../src/model/manifest.js";
import type { ModelOutput } from "../../src/model/outputs.js";
import { readManifest } from "../../src/model/read-manifest.js";
import { cpu } from "../../src/runtime/devices/cpu.js";
import type { Memory } from "../../src/runtime/memory.js";
import { Session } from "../../src/runtime/session.js";
import { randomModel, readGolden } from "../support/model.js";
import { type Fault, MODES, RecordingCpu } from "./recording-cpu.js";

type Recorded = Record<HeadName, number[][]>;

const SLOTS = 6;
const MAX_TOKENS = 256;

let golden: { ids: number[]; logits: Recorded };
let outputs: ModelOutput[];
let session: Session;
let recorder: RecordingCpu;
let runner: BatchRunner;
let cache: KvCache;
let guestRuns: GuestRuns;
let scheduler: Scheduler;
let vocabSize: number;

beforeAll(async () => {
  golden = await readGolden("tiny");
  const { modelDir } = await randomModel({ config: tiny, dtype: "BF16" });
  const manifest = await readManifest(modelDir);
  const { config, cachedHeadSize: headDim } = manifest;
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
  const rows = new BuddyRanges(SLOTS, 100);
  await runner.warmUp(1, MAX_TOKENS);
  await runner.record(rows.ranges(), MODES[0]);
  expect(runner.recorded).toBe(rows.ranges().length);
  const chunks = { sharedChunk: 32, loneChunk: 64, fewTokens: 4 };
  guestRuns = new GuestRuns(runner, manifest);
  scheduler = new Scheduler(runner, guestRuns, cache, { maxWaiting: 8, rows, keptTokens: 0, ...chunks });
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

describe("the way to record", () => {
  /** Records anew, with these faults, and puts things back as they were. */
  async function recordWith(faults: RecordingCpu["faults"], use: (report: RecordingReport) => Promise<void>) {
    const ranges = new BuddyRanges(SLOTS, 100).ranges();
    runner.forget();
    Object.assign(recorder.faults, faults);
    recorder.log.length = 0;
    try {
      const plan = { ranges, slots: SLOTS, maxTokens: MAX_TOKENS, vocabSize, outputs };
      await use(await recordSteps(runner, recorder.device, plan));
    } finally {
      for (const name of Object.keys(faults)) delete recorder.faults[name];
      runner.forget();
      await runner.record(ranges, MODES[0]);
    }
  }

  test("is the first that says what unrecorded steps say", () =>
    recordWith({}, async (report) => {
      expect(report).toMatchObject({ mode: "first", steps: runner.recorded, failed: [] });
      expect(report.distance).toBeLessThan(1e-4);
      expect(recorder.log).not.toContain("release");
    }));

  test.each<[Fault, RegExp]>([
    ["throws", /no capture today/],
    ["wrong", /a logit is off by \d/],
    ["wrong after a prompt", /a logit is off by \d/],
  ])("is the next where one %s, whose traces are removed first", (fault, problem) =>
    recordWith({ first: fault }, async (report) => {
      expect(report.mode).toBe("second");
      expect(report.failed).toEqual([{ mode: "first", problem: expect.stringMatching(problem) }]);
      const made = recorder.log.filter((entry) => entry === "record").length;
      expect(recorder.log.filter((entry) => entry === "release").length).toBe(made - runner.recorded);
      expect(recorder.log.filter((entry) => entry === "recover").length).toBe(1);
    }),
  );

  test("may leave results on the device, and copies them then", () =>
    recordWith({ first: "throws", second: "wrong" }, async (report) => {
      expect(report.mode).toBe("copied");
      expectGolden(await judge(1));
      expect(recorder.log.at(-1)).toBe("run");
    }));

  test("is none where all fail: steps run unrecorded, and the process is warned", async () => {
    const warning = new Promise<Error & { code?: string }>((resolve) => process.once("warning", resolve));
    await recordWith({ first: "throws", second: "wrong", copied: "wrong after a prompt" }, async (report) => {
      expect(report).toMatchObject({ mode: null, steps: 0 });
      expect(report.failed.map(({ mode }) => mode)).toEqual(["first", "second", "copied"]);
      recorder.log.length = 0;
      expectGolden(await judge(1));
      expect(recorder.log).toEqual([]);
      expect(await warning).toMatchObject({
        code: "QWEN3GUARD_NOT_RECORDED",
        message: expect.stringContaining("no capture today"),
      });
    });
  });

  test("makes few recordings where they take much memory, those for few streams first", async () => {
    const ranges = new BuddyRanges(SLOTS, 100).ranges();
    const record = vi.spyOn(runner, "record");
    const taken = vi.spyOn(recorder.device, "memory");
    let free = 1000;
    taken.mockImplementation(() => {
      free -= 10;
      return { bytes: free, reserved: 100, takenAsFilled: false };
    });
    try {
      await recordWith({}, async (report) => {
        expect(report.steps).toBeLessThan(ranges.length);
        expect(report.steps).toBeGreaterThan(1);
        const used = record.mock.calls[0][0].slice(0, report.steps);
        expect(used.map(({ first }) => first)).toEqual(used.map(() => 0));
        expectGolden(await judge(1));
      });
    } finally {
      record.mockRestore();
      taken.mockRestore();
    }
  });
});

test("steps of several tokens of one stream, where they are recorded too, give the golden logits", async () => {
  const lengths = [2, 4, 8];
  const long = lengths.map((length) => ({ first: 0, count: 1, length }));
  runner.forget();
  recorder.keepsNumbers = false;
  const ranges = [...new BuddyRanges(SLOTS, 100).ranges(), ...long];
  const plan = { ranges, slots: SLOTS, maxTokens: MAX_TOKENS, vocabSize, outputs };
  const report = await recordSteps(runner, recorder.device, plan);
  expect(report).toMatchObject({ mode: "first", steps: ranges.length });
  const rows = new BuddyRanges(SLOTS, 100);
  const options = {
    maxWaiting: 1,
    rows,
    sharedChunk: 32,
    loneChunk: 64,
    fewTokens: 1,
    keptTokens: 0,
    recordedChunks: lengths,
  };
  const own = new Scheduler(runner, guestRuns, cache, options);
  recorder.log.length = 0;
  expectGolden(await judge(7, own));
  // Each 7 are 4, 2 and 1.
  const [whole, rest] = [Math.floor(golden.ids.length / 7), golden.ids.length % 7];
  const steps = 3 * whole + [0, 1, 1, 2, 1, 2, 2][rest];
  expect(recorder.log.filter((entry) => entry === "run").length).toBe(steps);
  recorder.log.length = 0;
  expectGolden(await judge(32, own));
  expect(recorder.log.filter((entry) => entry === "run").length).toBeLessThan(3);
  await own.stop();
  recorder.keepsNumbers = true;
});

async function judge(chunk: number, by = scheduler): Promise<Recorded> {
  const sequence = new Sequence({ maxTokens: MAX_TOKENS, vocabSize, outputs }, by);
  by.admit(sequence);
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
