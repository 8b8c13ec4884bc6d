import { Engine, type EngineOptions } from "../engine/engine.js";
import { ModelError } from "../errors.js";
import { Tokenizer } from "../tokenizer/tokenizer.js";

/** What a guard is made of. */
export interface LoadedModel<T> {
  engine: Engine;
  tokenizer: Tokenizer;
  /** The checkpoint's chat template. */
  template: T;
}

/**
 * Loads what a model directory holds.
 *
 * @param loadTemplate reads the chat template
 * @throws {ModelError} TOKENIZER_MISMATCH; as `Engine.load`, which says more than what is wrong in another file
 */
export async function loadModel<T>(
  modelDir: string,
  options: EngineOptions,
  loadTemplate: (modelDir: string, tokenizer: Tokenizer) => Promise<T>,
): Promise<LoadedModel<T>> {
  // ONNX Runtime loads on a thread of its own, while this one reads the tokenizer.
  const loading = Engine.load(modelDir, options);
  loading.catch(() => {});
  try {
    const tokenizer = await Tokenizer.load(modelDir);
    const template = await loadTemplate(modelDir, tokenizer);
    const engine = await loading;
    requireVocabulary(tokenizer, engine.manifest.config.vocabSize, modelDir);
    return { engine, tokenizer, template };
  } catch (error) {
    // That a file is not the exported one says more than what is wrong in it.
    await (await loading).close();
    throw error;
  }
}

function requireVocabulary({ vocabSize }: Tokenizer, most: number, modelDir: string): void {
  if (vocabSize <= most) return;
  throw new ModelError(
    "TOKENIZER_MISMATCH",
    `The tokenizer in ${modelDir} has ${vocabSize} ids, and the model ${most}. ` +
      "Export again from a checkpoint whose tokenizer belongs to it.",
  );
}
