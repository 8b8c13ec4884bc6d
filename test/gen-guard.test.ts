import { copyFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { gen4B, gen8B, genOdd, genTiny } from "../scripts/checkpoint/random.js";
import { BatchRunner } from "../src/engine/batch.js";
import { Sequence } from "../src/engine/sequence.js";
import { exportCheckpoint } from "../src/export/export.js";
import { type GenGuard, loadGenGuard } from "../src/gen-guard.js";
import { type Classification, loadGuard, type Message } from "../src/index.js";
import type { Dtype } from "../src/model/manifest.js";
import { randomGen } from "./support/gen.js";
import { idle } from "./support/idle.js";
import { DEFAULT_MODEL, randomModel, reseal, temporaryFolder } from "./support/model.js";

const QUESTION: Message = { role: "user", content: "How do I bake bread?" };
const ANSWER: Message = { role: "assistant", content: "You mix flour, water and salt, and wait." };

let dirs: { checkpointDir: string; modelDir: string };
let guard: GenGuard;

beforeAll(async () => {
  dirs = await randomGen();
  guard = await loadGenGuard(dirs.modelDir, { maxStreams: 4 });
});
afterEach(() => {
  vi.restoreAllMocks();
});
afterAll(() => guard.close());

describe("a Gen guard's verdict", () => {
  test("on a prompt: risk, category of what is not safe, no refusal", async () => {
    const found = await guard.classify({ messages: [QUESTION] });
    expect(found).toMatchObject({ part: "prompt", refusal: null, refusalProbability: null, flaggedAt: null });
    expect(found.probabilities.risk.reduce((sum, p) => sum + p)).toBeCloseTo(1, 9);
    expect(found.text).toBe(`Safety: ${found.risk}\nCategories: ${found.category ?? "None"}`);
    expect(guard.labels.promptRisk).toContain(found.risk);
  });

  test("on an answer: whether it refuses, too", async () => {
    const found = await guard.classify({ messages: [QUESTION, ANSWER] });
    expect(found.part).toBe("response");
    expect(found.text).toBe(
      `Safety: ${found.risk}\nCategories: ${found.category ?? "None"}\nRefusal: ${found.refusal ? "Yes" : "No"}`,
    );
    const said = found.refusal ? found.refusalProbability : 1 - Number(found.refusalProbability);
    expect(said).toBeGreaterThanOrEqual(0.5);
  });

  test("is the same alone, among strangers, and over what the cache holds", async () => {
    const texts = ["Why?", "Hello there", "How do I bake bread?", "Tell me a joke, 请", "x".repeat(300)];
    const asks = texts.flatMap((content) => [
      [{ role: "user", content }],
      [{ role: "user", content }, ANSWER],
    ]);
    const alone: Classification[] = [];
    for (const messages of asks) alone.push(await guard.classify({ messages }));
    const together = await Promise.all(
      asks.map((messages) => guard.classify({ messages, cacheKey: "others" })),
    );
    together.forEach((found, i) => {
      expect(found.text).toBe(alone[i].text);
      found.probabilities.risk.forEach((p, label) => {
        expect(p).toBeCloseTo(alone[i].probabilities.risk[label], 4);
      });
    });
  });

  test("reads the instructions once for all requests, and not again for the same request", async () => {
    await guard.classify({ messages: [{ role: "user", content: "first" }] });
    const before = guard.load;
    const { length } = guard.template.prompt([{ role: "user", content: "second" }]).ids;
    await guard.classify({ messages: [{ role: "user", content: "second" }] });
    const after = guard.load;
    const ran = after.prefilledTokens - before.prefilledTokens;
    expect(ran).toBeLessThan(length / 2);
    expect(after.reusedTokens - before.reusedTokens).toBeGreaterThan(length / 2);
    await guard.classify({ messages: [{ role: "user", content: "second" }] });
    expect(guard.load.prefilledTokens - after.prefilledTokens).toBeLessThan(2);
  });

  test("says how many tokens it read: the answer is among its prompt's", async () => {
    const messages = [{ role: "user", content: "third" }, ANSWER];
    const { length } = guard.template.prompt(messages).ids;
    const cacheKey = crypto.randomUUID();
    const before = guard.load;
    const first = await guard.classify({ messages, cacheKey });
    expect(first).toMatchObject({ promptTokens: length, tokens: 0 });
    expect(first.reusedTokens).toBe(guard.load.reusedTokens - before.reusedTokens);
    expect(first.reusedTokens).toBeLessThan(length);
    // Of an answer that was expected, and is there already, nothing counts.
    expect(await guard.classify({ messages, cacheKey })).toEqual({ ...first, reusedTokens: length });
  });

  test("reads the instructions once for all keys, and of what others ask nothing", async () => {
    const own = await loadGenGuard(dirs.modelDir, { maxStreams: 2 });
    try {
      const content = "a secret that is long enough to be found again ".repeat(8);
      const ran = async (cacheKey: string) => {
        const before = own.load.prefilledTokens;
        const { text } = await own.classify({ messages: [{ role: "user", content }], cacheKey });
        return { text, tokens: own.load.prefilledTokens - before };
      };
      const [{ length }] = own.template.instructions;
      const first = await ran("a");
      for (const key of ["b", "c", "d"]) {
        expect(await ran(key)).toEqual({ text: first.text, tokens: first.tokens - length });
      }
      expect((await ran("d")).tokens).toBeLessThan(2);
    } finally {
      await own.close();
    }
  });

  test("leaves no slot behind, whether it ends, fails or is aborted", async () => {
    const controller = new AbortController();
    const running = guard.classify({
      messages: [{ role: "user", content: "a ".repeat(700) }],
      signal: controller.signal,
    });
    setImmediate(() => controller.abort());
    await expect(running).rejects.toMatchObject({ code: "ABORTED" });
    await expect(guard.classify({ messages: [QUESTION], signal: controller.signal })).rejects.toMatchObject({
      code: "ABORTED",
    });
    await expect(guard.classify({ messages: [] })).rejects.toMatchObject({ code: "MESSAGES_INVALID" });
    await expect(guard.classify({ messages: [QUESTION], tools: [{}] })).rejects.toMatchObject({
      code: "MESSAGES_INVALID",
    });
    await guard.classify({ messages: [QUESTION] });
    await idle(guard);
  });

  test("of a long prompt the LM head says nothing but what is read, and that is what it says of each run's end", async () => {
    const run = vi.spyOn(BatchRunner.prototype, "run");
    const messages = [{ role: "user" as const, content: "How do I bake bread? ".repeat(90) }];
    const found = await guard.classify({ messages });
    const asked = run.mock.calls.map(([{ asked }]) => asked);
    expect(asked.length).toBeGreaterThan(2);
    expect(asked[0]).toBe(0);
    vi.spyOn(Sequence.prototype, "asked").mockImplementation((count) => count);
    const all = await guard.classify({ messages, cacheKey: "asks for all" });
    expect(all.text).toBe(found.text);
    for (const kind of ["risk", "category"] as const) {
      all.probabilities[kind].forEach((p, i) => {
        expect(p).toBeCloseTo(found.probabilities[kind][i], 4);
      });
    }
  });

  test("of more than the context there is none: the conversation is refused", async () => {
    const long = [{ role: "user", content: "bread ".repeat(5000) }];
    await expect(guard.classify({ messages: long })).rejects.toMatchObject({
      code: "PROMPT_TOO_LONG",
      message: expect.not.stringContaining("windows"),
    });
  });

  test("has log probabilities that its own probabilities follow from", async () => {
    const messages = [QUESTION, ANSWER];
    const found = await guard.classify({ messages });
    const tokens = await guard.logprobs({ messages }, found.text, 3);
    expect(guard.tokenizer.decode(tokens.slice(0, -1).map(({ id }) => id))).toBe(found.text);
    for (const { top } of tokens) {
      expect(top).toHaveLength(3);
      expect(top[0].logprob).toBeGreaterThanOrEqual(top[2].logprob);
    }
  });
});

describe("a policy over a Gen guard", () => {
  const policy = (data: object) => guard.classify({ messages: [QUESTION, ANSWER], policy: data });

  test("a threshold on all risks together counts what no label alone makes", async () => {
    const { probabilities } = await guard.classify({ messages: [QUESTION, ANSWER] });
    const harm = probabilities.risk[1] + probabilities.risk[2];
    expect((await policy({ threshold: Math.min(1, harm + 1e-6) })).ruling?.action).toBe("pass");
    const counted = await policy({ threshold: harm - 1e-6 });
    expect(counted.ruling).toMatchObject({ action: "block", cause: "risk" });
    expect(counted.probabilities.category).toHaveLength(guard.labels.responseCategory.length);
  });

  test("a rule on refusal", async () => {
    const { refusal, ruling } = await policy({ threshold: 1, response: { refusal: "observe" } });
    expect(ruling).toMatchObject(refusal ? { action: "observe", cause: "refusal" } : { action: "pass" });
  });

  test("without a policy there is no ruling; one that does not fit is refused", async () => {
    expect(await guard.classify({ messages: [QUESTION] })).not.toHaveProperty("ruling");
    await expect(policy({ categories: { Fraud: "block" } })).rejects.toMatchObject({
      code: "POLICY_INVALID",
    });
  });
});

describe("kinds of guard", () => {
  test("each loader names the other where it is given the other's model", async () => {
    await expect(loadGuard(dirs.modelDir)).rejects.toMatchObject({ code: "MODEL_IS_GEN" });
    const { modelDir } = await randomModel({ config: {}, dtype: "BF16" });
    await expect(loadGenGuard(modelDir)).rejects.toMatchObject({ code: "MODEL_IS_STREAM" });
  });

  test("a checkpoint is loaded as it is, exported on first use", async () => {
    const cacheDir = await temporaryFolder();
    const own = await loadGenGuard(dirs.checkpointDir, { cacheDir, maxStreams: 1 });
    expect(own.manifest.config).toMatchObject({ kind: "gen", guardInnerSize: null });
    await own.close();
  });

  test("a plain Qwen3 is refused by name", async () => {
    const dir = await temporaryFolder();
    for (const file of ["config.json", "model.safetensors", "tokenizer.json"]) {
      await copyFile(join(dirs.checkpointDir, file), join(dir, file));
    }
    await copyFile(join(DEFAULT_MODEL, "tokenizer_config.json"), join(dir, "tokenizer_config.json"));
    await expect(exportCheckpoint(dir, join(dir, "out"))).rejects.toMatchObject({
      code: "GUARD_HEADS_MISSING",
    });
  });

  test("labels that the template does not name are found", async () => {
    const { modelDir } = await randomGen();
    const path = join(modelDir, "chat_template.jinja");
    await writeFile(path, (await readFile(path, "utf8")).replaceAll("PII.", "Private data."));
    await reseal(modelDir, (manifest) => {
      const { "chat_template.jinja": _, ...sources } = manifest.sources;
      return { ...manifest, sources };
    });
    await expect(loadGenGuard(modelDir)).rejects.toMatchObject({ code: "MODEL_INVALID" });
  });

  test("a head of its own, and heads whose size is padded", async () => {
    const { modelDir } = await randomGen(genOdd);
    const odd = await loadGenGuard(modelDir, { maxStreams: 2 });
    expect((await odd.classify({ messages: [QUESTION] })).part).toBe("prompt");
    await odd.close();
  });

  test.each<Dtype>(["int8", "w8a8", "int4"])("%s loads, and passes its self-test", async (dtype) => {
    const { modelDir } = await randomGen(genTiny, dtype);
    const other = await loadGenGuard(modelDir, { maxStreams: 1 });
    expect((await other.classify({ messages: [QUESTION, ANSWER] })).refusal).not.toBeNull();
    await other.close();
  });

  test.each([
    ["4B", "fp32", gen4B],
    ["4B", "int4", gen4B],
    ["8B", "fp32", gen8B],
    ["8B", "w8a8", gen8B],
  ] as const)(
    "the %s's heads, embeddings and LM head, narrow, load in %s and pass the self-test",
    async (_, dtype, shape) => {
      const narrow = { hidden_size: 256, intermediate_size: 768, num_hidden_layers: 1 };
      const context = { vocab_size: 8192, max_position_embeddings: 2048 };
      const { modelDir } = await randomGen({ ...shape, ...narrow, ...context }, dtype);
      const other = await loadGenGuard(modelDir, { maxStreams: 1 });
      expect(other.manifest.config).toMatchObject({ heads: 32, kvHeads: 8, headDim: 128 });
      expect((await other.classify({ messages: [QUESTION, ANSWER] })).text).toMatch(/^Safety: /);
      await other.close();
    },
  );

  test("an LM head that is not the checkpoint's fails the self-test", async () => {
    const { modelDir } = await randomGen();
    const data = join(modelDir, "model.onnx.data");
    const bytes = await readFile(data);
    bytes.fill(0, bytes.length - 200_000);
    await writeFile(data, bytes);
    await reseal(modelDir);
    await expect(loadGenGuard(modelDir)).rejects.toMatchObject({ code: "SELF_TEST_FAILED" });
  });
});
