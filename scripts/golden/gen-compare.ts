/**
 * Holds a Gen guard, exported in several formats, against what gen.py wrote of the same checkpoint:
 *
 *   npx tsx scripts/golden/gen-compare.ts CHECKPOINT GOLDEN.json [--formats fp32,int8,w8a8,int4,int4-kv8]
 *
 * A line for each format: bytes, verdicts with the same text, and the largest distance of a risk's probability and of a
 * refusal's. Exports are deleted again.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { parseFormat } from "../../bench/model.js";
import { convertCheckpoint } from "../../src/calibration/convert-checkpoint.js";
import { loadGenGuard } from "../../src/gen-guard.js";
import type { Message } from "../../src/index.js";

interface Golden {
  verdicts: { messages: Message[]; length: number; text: string; risk: number[]; refusal: number | null }[];
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { formats: { type: "string", default: "fp32,int8,w8a8,int4,int4-kv8" } },
});
const [checkpoint, file] = positionals;
const { verdicts } = JSON.parse(await readFile(file, "utf8")) as Golden;
for (const format of values.formats.split(",")) console.log(format, await compare(format));

async function compare(format: string): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "qwen3guard-compare-"));
  try {
    const model = join(dir, format);
    await convertCheckpoint(checkpoint, model, parseFormat(format));
    await using guard = await loadGenGuard(model, { maxStreams: 1, maxTokens: 1024, cacheDir: dir });
    let [same, risk, refusal] = [0, 0, 0];
    for (const expected of verdicts) {
      const { messages } = expected;
      const { length } = guard.template.prompt(messages).ids;
      if (length !== expected.length) throw new Error(`${length} ids, not ${expected.length}`);
      const found = await guard.classify({ messages });
      if (found.text === expected.text) same++;
      expected.risk.forEach((p, i) => {
        risk = Math.max(risk, Math.abs(p - found.probabilities.risk[i]));
      });
      if (expected.refusal !== null && found.refusalProbability !== null)
        refusal = Math.max(refusal, Math.abs(expected.refusal - found.refusalProbability));
    }
    const bytes = Object.values(guard.manifest.files).reduce((sum, size) => sum + size);
    const texts = `${same} of ${verdicts.length} texts the same`;
    return `${(bytes / 1e6).toFixed(0)} MB, ${texts}, risk ${risk.toPrecision(2)}, refusal ${refusal.toPrecision(2)}`;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
