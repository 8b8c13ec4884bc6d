import { isDeepStrictEqual } from "node:util";
import { ModelError } from "../errors.js";
import { DEVICE_KINDS } from "../runtime/devices/kinds.js";
import { HEAD_NAMES } from "./architecture.js";
import type { GuardConfig, GuardKind } from "./config.js";
import type { Manifest } from "./manifest.js";
import type { ModelOutput } from "./outputs.js";

/** The name of a Gen guard's one output: a logit for each token of its vocabulary. */
export const NEXT_TOKEN = "nextToken";

/**
 * A verdict's words that are read in one run: from "Safety:" to the end of " Safe\nCategories: None\nRefusal:", or from a
 * category's first token to the "Refusal:" behind it.
 */
export const TAIL = 10;

/** @param asked whether a run says how many of those tokens it wants: none of a prompt's beginning */
export function genOutputs({ vocabSize }: Pick<GuardConfig, "vocabSize">, asked = false): ModelOutput[] {
  const output = { name: NEXT_TOKEN, width: vocabSize, position: "tail", tail: TAIL } as const;
  return [asked ? { ...output, asked } : output];
}

/** What a guard's graph gives: for each token as many logits as a head has labels; or what a Gen guard would say next. */
export function guardOutputs(config: GuardConfig, asked = false): ModelOutput[] {
  if (config.kind === "gen") return genOutputs(config, asked);
  return HEAD_NAMES.map((name) => ({ name, width: config.labels[name].length, position: "each" }));
}

/**
 * Whether a model is a guard: it gives logits for the labels that it names, it can be tested, and has a tokenizer.
 *
 * @throws {ModelError} MODEL_INVALID
 */
export function requireGuard(manifest: Manifest, dir: string): void {
  const { outputs, config, device, selfTest, files } = manifest;
  const invalid = (what: string) =>
    new ModelError("MODEL_INVALID", `The model in ${dir} ${what}. Export a guard's checkpoint again.`);
  if (!isDeepStrictEqual(outputs, guardOutputs(config, DEVICE_KINDS[device].graph.asksForOutputs))) {
    const given = outputs.map(({ name, width }) => `${name} [${width}]`).join(", ");
    throw invalid(`gives ${given}, which is not what a guard of its kind and labels gives`);
  }
  if (!selfTest) throw invalid("has no self-test, so nothing tells whether it is right");
  if (!Object.hasOwn(files, "tokenizer.json")) throw invalid("has no tokenizer.json among its files");
}

/**
 * Whether a model is a guard of this kind.
 *
 * @throws {ModelError} MODEL_INVALID; MODEL_IS_GEN, MODEL_IS_STREAM: it is a guard of the other kind
 */
export function requireKind(manifest: Manifest, dir: string, kind: GuardKind): void {
  requireGuard(manifest, dir);
  if (manifest.config.kind === kind) return;
  throw kind === "stream"
    ? new ModelError(
        "MODEL_IS_GEN",
        `The model in ${dir} is a Qwen3Guard-Gen, which judges finished texts alone: it has no verdict on a token. ` +
          "Load it with loadGenGuard (`classify`, `eval` and `serve` on the command line), or name a Qwen3Guard-Stream.",
      )
    : new ModelError(
        "MODEL_IS_STREAM",
        `The model in ${dir} is a Qwen3Guard-Stream, which writes no verdict. Load it with loadGuard, whose classify ` +
          "gives the same, or name a Qwen3Guard-Gen.",
      );
}
