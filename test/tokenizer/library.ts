import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import { normalize } from "../../src/tokenizer/normalization/normalize.js";
import { QWEN3 } from "./qwen3.js";

type Encode = (text: string) => number[];

/**
 * An implementation of its own to compare with: @huggingface/tokenizers, encoding at once. Set right where it is
 * known to differ from the reference: the long s in contractions, marks that the reference's NFC does not know.
 */
export async function libraryEncoders(): Promise<{ content: Encode; templated: Encode }> {
  const source = await readFile(join(QWEN3, "tokenizer.json"), "utf8");
  const file = JSON.parse(source.replace("(?i:'s|", "(?:'ſ)|(?i:'s|"));
  const templated = new Tokenizer(file, {});
  const contentTokens = file.added_tokens.filter((token: { special: boolean }) => !token.special);
  const content = new Tokenizer(
    { ...file, added_tokens: contentTokens, model: { type: "BPE", vocab: {}, merges: [] } },
    {},
  );
  content.model = templated.model;
  for (const tokenizer of [templated, content]) tokenizer.normalizer = normalize;
  const encodeBy = (tokenizer: Tokenizer) => (text: string) =>
    tokenizer.encode(text.replace(/\p{Surrogate}/gu, "\ufffd"), { add_special_tokens: false }).ids;
  return { content: encodeBy(content), templated: encodeBy(templated) };
}
