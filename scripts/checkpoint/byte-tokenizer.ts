import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const EMBEDDED = fileURLToPath(new URL("../../models/default", import.meta.url));

/** Their ids come behind those of the 256 bytes and of one pair: a vocabulary of 262. */
const ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"];

/** Writes a tokenizer like Qwen3's in which nearly every byte is a token: for models of any vocabulary from 262 on. */
export async function writeByteTokenizer(dir: string): Promise<void> {
  const tokenizer = JSON.parse(await readFile(join(EMBEDDED, "tokenizer.json"), "utf8"));
  const bytes = Object.keys(tokenizer.model.vocab).filter((token) => [...token].length === 1);
  const [merge] = tokenizer.model.merges;
  const tokens = [...bytes, (Array.isArray(merge) ? merge : merge.split(" ")).join("")];
  tokenizer.model.vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  tokenizer.model.merges = [merge];
  const template = tokenizer.added_tokens[0];
  tokenizer.added_tokens = ADDED.map((content, i) => ({
    ...template,
    id: tokens.length + i,
    content,
    special: content.startsWith("<|"),
  }));
  const config = JSON.parse(await readFile(join(EMBEDDED, "tokenizer_config.json"), "utf8"));
  delete config.added_tokens_decoder;
  await writeFile(join(dir, "tokenizer.json"), JSON.stringify(tokenizer));
  await writeFile(join(dir, "tokenizer_config.json"), JSON.stringify(config));
}
