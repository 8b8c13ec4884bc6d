import { isDeepStrictEqual } from "node:util";
import { ModelError } from "../errors.js";
import { HEAD_NAMES, MODERATORS } from "../model/architecture.js";
import type { GuardConfig, GuardKind } from "../model/config.js";
import type { Manifest } from "../model/manifest.js";
import type { ModelOutput } from "../model/outputs.js";
import { DenseWeights } from "./formats/dense.js";
import { genOutputs } from "./lm-head.js";
import { type AddOutputs, addOutput } from "./outputs.js";
import { vector } from "./weights.js";

/** What a guard's graph gives: for each token as many logits as a head has labels; or what a Gen guard would say next. */
function guardOutputs(config: GuardConfig): ModelOutput[] {
  if (config.kind === "gen") return genOutputs(config);
  return HEAD_NAMES.map((name) => ({ name, width: config.labels[name].length, position: "each" }));
}

/**
 * Whether a model is a guard: it gives logits for the labels that it names, it can be tested, and has a tokenizer.
 *
 * @throws {ModelError} MODEL_INVALID
 */
export function requireGuard({ outputs, config, selfTest, files }: Manifest, dir: string): void {
  const invalid = (what: string) =>
    new ModelError("MODEL_INVALID", `The model in ${dir} ${what}. Export a guard's checkpoint again.`);
  if (!isDeepStrictEqual(outputs, guardOutputs(config))) {
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

/**
 * Adds prompt and response moderator: Linear → RMSNorm → two Linears each. They stay in float32 whatever the format
 * of the backbone: they are small, and the verdict hangs on them.
 */
export const addHeads: AddOutputs = (graph, source, hidden, { target }) => {
  const { config } = source;
  const weights = new DenseWeights(source, "float32");
  const input =
    target.activation === "float32" ? hidden : graph.add("Cast", [hidden], "heads.input", { to: 1 });
  for (const { tensors, heads } of MODERATORS) {
    const inner = config.guardInnerSize as number;
    const pre = weights.linear(graph, `${tensors}.pre`, input, [
      { tensor: `${tensors}_pre.weight`, rows: inner, columns: config.hiddenSize },
    ]);
    const norm = vector(graph, source, `${tensors}_layernorm.weight`, inner, "float32");
    const normed = graph.add("SimplifiedLayerNormalization", [pre, norm], `${tensors}.norm`, {
      axis: -1,
      epsilon: config.rmsNormEps,
      stash_type: 1,
    });
    for (const { name, tensor } of heads) {
      const rows = config.labels[name].length;
      weights.linear(graph, name, normed, [{ tensor, rows, columns: inner }]);
    }
  }
  const outputs = guardOutputs(config);
  for (const output of outputs) addOutput(graph, output);
  return outputs;
};
