/**
 * Writes a checkpoint with random weights: for tests, benches and trying a size out without its download.
 *
 *   npx tsx scripts/checkpoint/make-random.ts shape06B /tmp/random-0.6b [--dtype BF16] [--shards 1] [--seed 1]
 *     [--tokenizer DIR] [--set num_hidden_layers=4]
 */
import { parseArgs } from "node:util";
import * as all from "./presets.js";
import { writeRandomCheckpoint } from "./random.js";

const presets: Record<string, all.RawConfig> = { ...all };
const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    dtype: { type: "string", default: "BF16" },
    shards: { type: "string", default: "1" },
    seed: { type: "string", default: "1" },
    tokenizer: { type: "string" },
    set: { type: "string", multiple: true, default: [] },
  },
});
const [preset, dir] = positionals;
if (!(preset in presets) || !dir || !["BF16", "F16", "F32"].includes(values.dtype)) {
  console.error(`usage: make-random.ts ${Object.keys(presets).join("|")} DIR [--dtype BF16|F16|F32] …`);
  process.exit(2);
}
const overrides = values.set.map((pair) => {
  const [, field, value] = /^(\w+)=(.*)$/.exec(pair) ?? [];
  return [field, JSON.parse(value)];
});
await writeRandomCheckpoint(dir, {
  config: { ...presets[preset], ...Object.fromEntries(overrides) },
  dtype: values.dtype as "BF16" | "F16" | "F32",
  shards: Number(values.shards),
  seed: Number(values.seed),
  // A Gen guard without a tokenizer is of no use: it gets the embedded model's.
  tokenizerDir: values.tokenizer ?? (preset.startsWith("gen") ? undefined : null),
});
