import { createHash } from "node:crypto";
import { copyFile, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { genOdd, genTiny, writeRandomCheckpoint } from "../../../scripts/checkpoint/random.js";
import { exportCheckpoint } from "../../../src/export/export.js";
import { loadGenGuard } from "../../../src/gen-guard.js";
import type { Message } from "../../../src/index.js";
import { readGolden, temporaryFolder } from "../../support/model.js";

/** What scripts/golden/gen.py writes. */
interface Golden {
  sha256: Record<string, string>;
  verdicts: {
    messages: Message[];
    /** SHA-256 of the prompt's ids. */
    ids: string;
    length: number;
    text: string;
    risk: number[];
    category: number[];
    refusal: number | null;
    generated?: string;
  }[];
}

const TRAINED = fileURLToPath(new URL("../../golden/gen-trained", import.meta.url));
/** Names a thousand times less likely than the likeliest are not read to their end. */
const UNREAD = 1e-3;

const sha256 = (data: string | Uint8Array) => createHash("sha256").update(data).digest("hex");

async function checkpoint(name: string): Promise<string> {
  const dir = join(await temporaryFolder(), name);
  if (name !== "gen-trained") {
    await writeRandomCheckpoint(dir, { config: { genTiny, genOdd }[name] ?? {}, dtype: "BF16" });
    return dir;
  }
  // Its tokenizer and template are at hand already.
  await writeRandomCheckpoint(dir, { config: genTiny, dtype: "BF16" });
  for (const file of ["config.json", "model.safetensors"])
    await copyFile(join(TRAINED, file), join(dir, file));
  return dir;
}

describe.each(["genTiny", "genOdd", "gen-trained"])("%s, held against transformers", (name) => {
  test("ids, probabilities and text of every verdict", async () => {
    const golden = await readGolden<Golden>(name);
    const dir = await checkpoint(name);
    expect({ "model.safetensors": sha256(await readFile(join(dir, "model.safetensors"))) }).toEqual(
      golden.sha256,
    );
    const modelDir = join(await temporaryFolder(), "model");
    await exportCheckpoint(dir, modelDir);
    const guard = await loadGenGuard(modelDir, { maxStreams: 2 });
    for (const { messages, ids, length, text, risk, category, refusal } of golden.verdicts) {
      const prompt = guard.template.prompt(messages).ids;
      expect(prompt).toHaveLength(length);
      expect(sha256(JSON.stringify(prompt))).toBe(ids);
      const found = await guard.classify({ messages });
      expect(found.text).toBe(text);
      risk.forEach((p, i) => {
        expect(found.probabilities.risk[i]).toBeCloseTo(p, 3);
      });
      found.probabilities.category.forEach((p, i) => {
        expect(Math.abs(p - category[i])).toBeLessThan(1.5 * UNREAD);
      });
      if (refusal === null) expect(found.refusal).toBeNull();
      else expect(found.refusalProbability).toBeCloseTo(refusal, 3);
    }
    await guard.close();
  });
});

const FORM = /^Safety: (.+)\nCategories: (.+)(?:\nRefusal: (?:Yes|No))?$/;

test("on trained weights, free greedy decoding in transformers and here writes what was read", async () => {
  const golden = await readGolden<Golden>("gen-trained");
  const dir = await checkpoint("gen-trained");
  const guard = await loadGenGuard(dir, { maxStreams: 2, cacheDir: await temporaryFolder() });
  let formal = 0;
  for (const { messages, generated = "" } of golden.verdicts) {
    expect(await guard.generate({ messages })).toBe(generated);
    const [, risk, category] = FORM.exec(generated) ?? [];
    if (risk === undefined || (risk === "Safe" && category !== "None")) continue;
    formal++;
    expect((await guard.classify({ messages })).text).toBe(generated);
  }
  // The other six leave the form: a model that was trained for minutes drops a line now and then.
  expect(formal).toBe(15);
  await guard.close();
});
