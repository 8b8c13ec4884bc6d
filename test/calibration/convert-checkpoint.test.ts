import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { tiny, writeRandomCheckpoint } from "../../scripts/checkpoint/random.js";
import { calibrate } from "../../src/calibration/calibrate.js";
import { convertCheckpoint } from "../../src/calibration/convert-checkpoint.js";
import { Engine } from "../../src/engine/engine.js";
import type { Sequence } from "../../src/engine/sequence.js";
import { CheckpointError, ClosedError, InputError } from "../../src/errors.js";
import { exportCheckpoint } from "../../src/export/export.js";
import { HEAD_NAMES, type HeadName } from "../../src/model/architecture.js";
import { readManifest } from "../../src/model/read-manifest.js";
import { expectError } from "../support/errors.js";
import { DEFAULT_MODEL, readGolden, temporaryFolder } from "../support/model.js";

let root: string;
let bare: string;
let checkpoint: string;

beforeAll(async () => {
  root = await temporaryFolder();
  bare = join(root, "bare");
  await writeRandomCheckpoint(bare, { config: tiny, dtype: "BF16" });
  checkpoint = join(root, "checkpoint");
  await writeRandomCheckpoint(checkpoint, {
    config: { ...tiny, vocab_size: 8704 },
    dtype: "BF16",
    tokenizerDir: DEFAULT_MODEL,
  });
});

test("an int8 cache stays near the golden logits", async () => {
  const golden = await readGolden<{ ids: number[]; logits: Record<HeadName, number[][]> }>("tiny");
  const out = join(root, "kv-golden");
  await exportCheckpoint(bare, out, {
    // Half of the sequence: the other half shows what ranges it did not see cost.
    calibrate: (dir) => calibrate(dir, [golden.ids.slice(0, 80)]),
  });
  const engine = await Engine.load(out, { maxStreams: 2, maxTokens: 256 });
  expect(engine.cacheType).toBe("int8");
  const alone: number[] = [];
  // Chunks from 24 tokens on take another path through the graph than steps and short chunks do.
  for (const chunk of [1, 7, 24, 50, golden.ids.length]) {
    let largest = 0;
    const risks: number[] = [];
    const sequence = engine.open();
    for (let at = 0; at < golden.ids.length; at += chunk) {
      await sequence.feed(golden.ids.slice(at, at + chunk), (logits, index, position) => {
        for (const head of HEAD_NAMES) {
          const expected = golden.logits[head][position];
          if (head === "responseRisk") risks.push(logits[head][index * expected.length]);
          expected.forEach((x, i) => {
            largest = Math.max(largest, Math.abs(logits[head][index * expected.length + i] - x));
          });
        }
      });
    }
    sequence.close(new ClosedError("STREAM_CLOSED", "done"));
    expect(largest).toBeLessThan(0.1);
    // The float cache would be exact.
    expect(largest).toBeGreaterThan(1e-4);
    if (chunk === 1) alone.push(...risks);
    // All paths keep the same bytes.
    risks.forEach((risk, i) => {
      expect(Math.abs(risk - alone[i])).toBeLessThan(5e-3);
    });
  }
  await engine.close();
});

test("an int8 cache keeps strangers apart and forgets what was rolled back, in chunks as in steps", async () => {
  const { ids } = await readGolden<{ ids: number[] }>("tiny");
  const out = join(root, "kv-slots");
  await exportCheckpoint(bare, out, { calibrate: (dir) => calibrate(dir, [ids]) });
  const engine = await Engine.load(out, { maxStreams: 3, maxTokens: 256 });
  const texts = [ids.slice(0, 100), ids.slice(20, 120), ids.slice(40, 140)];
  const read = async (sequence: Sequence, tokens: number[], at?: number) => {
    const risks: number[] = [];
    await sequence.feed(tokens, (logits, index) => risks.push(logits.responseRisk[index * 3]), at);
    return risks;
  };
  const closed = () => new ClosedError("STREAM_CLOSED", "done");
  const alone: number[][] = [];
  for (const text of texts) {
    const sequence = engine.open();
    alone.push(await read(sequence, text));
    sequence.close(closed());
  }
  const sequences = texts.map(() => engine.open());
  const together = await Promise.all(
    sequences.map(async (sequence, i) => {
      const wrong = ids.slice(0, 60).reverse();
      await read(sequence, wrong);
      const risks = await read(sequence, texts[i].slice(0, 50), 0);
      for (const token of texts[i].slice(50, 55)) risks.push(...(await read(sequence, [token])));
      return [...risks, ...(await read(sequence, texts[i].slice(55)))];
    }),
  );
  for (const sequence of sequences) sequence.close(closed());
  await engine.close();
  together.forEach((risks, i) => {
    expect(risks).toHaveLength(100);
    risks.forEach((risk, k) => {
      expect(Math.abs(risk - alone[i][k])).toBeLessThan(5e-3);
    });
  });
  // Three texts, not one thrice.
  expect(Math.abs(alone[0][50] - alone[1][50])).toBeGreaterThan(1e-2);
});

test("calibration and comparison run on the package's own conversations", async () => {
  const out = join(root, "out");
  const stages = new Set<string>();
  const manifest = await convertCheckpoint(checkpoint, out, {
    dtype: "w8a8",
    kvCache: "int8",
    verify: true,
    onProgress: (stage) => stages.add(stage),
  });
  expect([...stages]).toEqual(["hash", "write", "calibrate", "check", "reference", "verify"]);
  expect(await readManifest(out)).toEqual(manifest);
  expect(manifest).toMatchObject({ dtype: "w8a8", kvCache: "int8" });
  // The kernel for such a cache takes no mask.
  expect(await readdir(out)).not.toContain("branches.onnx");
  const { verdicts, riskAgreement, largestChange, meanChange } = manifest.comparison!;
  expect(verdicts).toBeGreaterThan(1000);
  expect(riskAgreement).toBeGreaterThan(0.9);
  expect(riskAgreement).toBeLessThanOrEqual(1);
  expect(largestChange).toBeGreaterThan(meanChange);
  expect(meanChange).toBeGreaterThan(0);
  expect((await readdir(root)).filter((name) => name.startsWith("."))).toEqual([]);
});

test("fp32 compared with itself agrees in everything", async () => {
  const { comparison } = await convertCheckpoint(checkpoint, join(root, "itself"), { verify: true });
  expect(comparison).toMatchObject({
    riskAgreement: 1,
    categoryAgreement: 1,
    largestChange: 0,
    meanChange: 0,
  });
});

test("samples may outgrow the model's context", async () => {
  const short = join(root, "short");
  await writeRandomCheckpoint(short, {
    config: { ...tiny, vocab_size: 8704, max_position_embeddings: 100 },
    dtype: "BF16",
    tokenizerDir: DEFAULT_MODEL,
  });
  const { comparison } = await convertCheckpoint(short, join(root, "short-out"), {
    kvCache: "int8",
    verify: true,
  });
  expect(comparison!.verdicts).toBeGreaterThan(1000);
});

test("only the graph differs between a float and an int8 cache", async () => {
  const data = (name: string) => readFile(join(root, name, "model.onnx.data"));
  await convertCheckpoint(checkpoint, join(root, "int8-kv"), { dtype: "int8", kvCache: "int8" });
  await convertCheckpoint(checkpoint, join(root, "int8-plain"), { dtype: "int8" });
  expect((await data("int8-kv")).equals(await data("int8-plain"))).toBe(true);
});

test("refusals leave nothing behind", async () => {
  const out = join(root, "refused");
  const mute = join(root, "mute");
  await writeRandomCheckpoint(mute, { config: tiny, dtype: "BF16", tokenizerDir: null });
  const withoutText = convertCheckpoint(mute, out, { kvCache: "int8" });
  await expectError(withoutText, CheckpointError, "TOKENIZER_MISSING");
  await expect(withoutText).rejects.toThrow(`${mute} has no tokenizer.json`);
  await expectError(
    convertCheckpoint(checkpoint, out, { kvCache: "int3" as "int8" }),
    InputError,
    "KV_CACHE_UNKNOWN",
  );
  await expectError(
    convertCheckpoint(checkpoint, out, { device: "cuda", verify: true }),
    InputError,
    "VERIFY_NEEDS_CPU",
  );
  expect((await readdir(root)).filter((name) => name.includes("refused"))).toEqual([]);
});
