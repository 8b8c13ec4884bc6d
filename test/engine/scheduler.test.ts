import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tiny } from "../../scripts/checkpoint/random.js";
import { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { Engine } from "../../src/engine/engine.js";
import type { LogitsReader } from "../../src/engine/logits.js";
import type { Sequence } from "../../src/engine/sequence.js";
import { ClosedError, ContextLengthError, InputError, NumericError } from "../../src/errors.js";
import { idle } from "../support/idle.js";
import { randomModel, reseal, temporaryFolder } from "../support/model.js";

const done = new ClosedError("STREAM_CLOSED", "done");
const ignore: LogitsReader = () => {};
const ids = (seed: number, count: number) =>
  Array.from({ length: count }, (_, i) => (i * 37 + seed * 101 + 8) % 512);

let checkpointDir: string;
let modelDir: string;
beforeAll(async () => {
  ({ checkpointDir, modelDir } = await randomModel({ config: tiny, dtype: "BF16" }));
});

describe("slots", () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await Engine.load(modelDir, { maxStreams: 2, maxTokens: 64 });
  });
  afterAll(() => engine.close());

  test("more sequences than slots wait in order, and nothing of them is lost", async () => {
    const sequences = [1, 2, 3, 4, 5].map(() => engine.open());
    const finished: number[] = [];
    const fed = sequences.map((sequence, i) =>
      sequence.feed(ids(i, 20), ignore).then(() => {
        finished.push(i);
        sequence.close(done);
      }),
    );
    expect(engine.load).toMatchObject({ active: 2, waiting: 3 });
    await Promise.all(fed);
    expect(new Set(finished.slice(0, 2))).toEqual(new Set([0, 1]));
    expect(finished.indexOf(2)).toBeLessThan(finished.indexOf(4));
    expect(engine.load).toMatchObject({ active: 0, waiting: 0 });
  });

  test("a waiting sequence that closes gives up its place", async () => {
    const [a, b, c, d] = [1, 2, 3, 4].map(() => engine.open());
    const lost = c.feed(ids(3, 4), ignore);
    c.close(done);
    await expect(lost).rejects.toBe(done);
    expect(engine.load).toMatchObject({ active: 2, waiting: 1 });
    a.close(done);
    await d.feed(ids(4, 4), ignore);
    for (const sequence of [b, d]) sequence.close(done);
    expect(engine.load).toMatchObject({ active: 0, waiting: 0 });
  });

  test("the slot of a sequence closed during a step is free once the step ends", async () => {
    const sequence = engine.open();
    const first = sequence.feed(ids(1, 2), () => sequence.close(done));
    await expect(first).rejects.toBe(done);
    await new Promise(setImmediate);
    expect(engine.load.active).toBe(0);
  });

  test("a reused slot knows nothing of its last owner", async () => {
    const run = async (sequence: Sequence) => {
      const seen: number[] = [];
      await sequence.feed(ids(9, 12), (logits, index) => seen.push(logits.responseRisk[index * 3]));
      sequence.close(done);
      return seen;
    };
    const fresh = await run(engine.open());
    const other = engine.open();
    await other.feed(ids(5, 60), ignore);
    other.close(done);
    expect(await run(engine.open())).toEqual(fresh);
  });
});

describe("limits", () => {
  let engine: Engine;
  let sequence: Sequence;
  beforeAll(async () => {
    engine = await Engine.load(modelDir, { maxStreams: 1, maxTokens: 16 });
    sequence = engine.open();
  });
  afterAll(() => engine.close());

  test.each([[512], [-1], [1.5], [Number.NaN], ["7" as unknown as number]])(
    "token id %s is refused",
    async (id) => {
      await expect(sequence.feed([1, id], ignore)).rejects.toMatchObject({ code: "TOKEN_INVALID" });
      await expect(sequence.feed([1, id], ignore)).rejects.toBeInstanceOf(InputError);
      expect(sequence.end).toBe(0);
    },
  );

  test("the cache holds exactly maxTokens", async () => {
    await sequence.feed(ids(1, 16), ignore);
    const tooMany = sequence.feed([1], ignore);
    await expect(tooMany).rejects.toBeInstanceOf(ContextLengthError);
    await expect(tooMany).rejects.toMatchObject({ code: "CONTEXT_EXCEEDED" });
    await sequence.feed([1], ignore, 15);
    expect(sequence.length).toBe(16);
  });

  test.each([{ maxTokens: 0 }, { maxTokens: 1e9 }, { maxStreams: 1.5 }, { threads: -1 }])(
    "%o is refused",
    async (options) => {
      await expect(Engine.load(modelDir, options)).rejects.toMatchObject({ code: "OPTION_INVALID" });
    },
  );
});

test("a closed engine refuses sequences and rejects what waits", async () => {
  const engine = await Engine.load(modelDir, { maxStreams: 1, maxTokens: 64 });
  const sequences = [engine.open(), engine.open()];
  const fed = sequences.map((sequence) => sequence.feed(ids(1, 60), ignore));
  const outcome = Promise.allSettled(fed);
  await engine.close();
  for (const result of await outcome) expect(result).toMatchObject({ reason: { code: "GUARD_CLOSED" } });
  expect(() => engine.open()).toThrowError(expect.objectContaining({ code: "GUARD_CLOSED" }));
  await engine.close();
});

test("NaN logits fail their own sequence and no other", async () => {
  const poisoned = 7;
  const broken = await poison(poisoned);
  const engine = await Engine.load(broken, { maxStreams: 3, maxTokens: 64 });
  const healthy = async () => {
    const sequence = engine.open();
    const seen: number[] = [];
    for (const id of ids(2, 30).filter((id) => id !== poisoned)) {
      await sequence.feed([id], (logits, index) => seen.push(logits.responseRisk[index * 3]));
    }
    sequence.close(done);
    return seen;
  };
  const alone = await healthy();
  const victim = async () => {
    const sequence = engine.open();
    await sequence.feed([1, 2, 3], ignore);
    const failure = sequence.feed([poisoned], ignore);
    await expect(failure).rejects.toBeInstanceOf(NumericError);
    await expect(failure).rejects.toMatchObject({ code: "LOGITS_NOT_FINITE" });
    await expect(sequence.feed([1], ignore)).rejects.toBeInstanceOf(NumericError);
  };
  const [beside] = await Promise.all([healthy(), victim(), victim()]);
  beside.forEach((value, i) => {
    expect(value).toBeCloseTo(alone[i], 4);
  });
  await idle(engine);
  await engine.close();
});

test("when results cannot be handed out, the sequence fails and the engine goes on", async () => {
  const engine = await Engine.load(modelDir, { maxStreams: 2, maxTokens: 64 });
  const sequence = engine.open();
  const failed = sequence.feed([1], () => {
    throw new Error("reader failed");
  });
  await expect(failed).rejects.toMatchObject({ code: "INTERNAL" });
  const next = engine.open();
  await next.feed(ids(1, 5), ignore);
  expect(engine.load.active).toBe(1);
  await engine.close();
});

/** Copies a model and puts NaN into the embedding of one token. */
async function poison(tokenId: number): Promise<string> {
  const copy = join(await temporaryFolder(), "poisoned");
  await cp(modelDir, copy, { recursive: true });
  const checkpoint = await Checkpoint.open(checkpointDir);
  const table = await checkpoint.read("model.embed_tokens.weight");
  await checkpoint.close();
  const row = table.subarray(tokenId * tiny.hidden_size, (tokenId + 1) * tiny.hidden_size);
  const path = join(copy, "model.onnx.data");
  const data = await readFile(path);
  const at = data.indexOf(new Uint8Array(row.buffer, row.byteOffset, row.byteLength));
  expect(at).toBeGreaterThanOrEqual(0);
  new Float32Array(data.buffer, data.byteOffset + at, row.length).fill(Number.NaN);
  await writeFile(path, data);
  await reseal(copy);
  return copy;
}
