import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Tokenizer as LibraryTokenizer } from "@huggingface/tokenizers";
import { CheckpointError, InputError } from "../errors.js";
import { AddedTokens } from "./added-tokens.js";
import { bytesOfLetters } from "./byte-alphabet.js";
import { Merges } from "./merges.js";
import { QWEN_SPLIT, SPELLED_OUT_SPLIT } from "./split-pattern.js";

interface AddedToken {
  id: number;
  content: string;
  special: boolean;
}

interface TokenizerFile {
  added_tokens: AddedToken[];
  model: { vocab: Record<string, number>; merges: [string, string][] };
  [part: string]: unknown;
}

/**
 * One checkpoint's tokenizer: text ↔ ids. Text is JavaScript's; a lone surrogate counts as U+FFFD, as it does for
 * TextEncoder.
 */
export class Tokenizer {
  /** Highest id + 1. */
  readonly vocabSize: number;
  /** The vocabulary laid out for encoding text as it comes. */
  readonly merges: Merges;
  /** The added tokens that count in content too: those that are not control tokens, `<think>` and the like. */
  readonly contentTokens: AddedTokens;
  /** Control tokens, by their text: `<|im_start|>` and the like. They count in templates alone. */
  readonly controlTokens: ReadonlyMap<string, number>;

  readonly #templated: LibraryTokenizer;
  readonly #content: LibraryTokenizer;
  readonly #bytes: (Uint8Array | undefined)[] = [];

  private constructor(file: TokenizerFile, source: string) {
    this.merges = new Merges(file.model.vocab, file.model.merges, source);
    const contentTokens = file.added_tokens.filter((token) => !token.special);
    this.contentTokens = new AddedTokens(contentTokens);
    this.controlTokens = new Map(
      file.added_tokens.filter((token) => token.special).map((token) => [token.content, token.id]),
    );

    this.#templated = new LibraryTokenizer(file, {});
    // The two differ in their added tokens alone and share the vocabulary, the one large part.
    const nothing = { type: "BPE", vocab: {}, merges: [] };
    this.#content = new LibraryTokenizer({ ...file, added_tokens: contentTokens, model: nothing }, {});
    this.#content.model = this.#templated.model;

    for (const [token, id] of Object.entries(file.model.vocab)) {
      this.#bytes[id] = bytesOfLetters(token) ?? new TextEncoder().encode(token);
    }
    for (const { id, content } of file.added_tokens) this.#bytes[id] = new TextEncoder().encode(content);
    this.vocabSize = this.#bytes.length;
  }

  /**
   * Reads `tokenizer.json` of a checkpoint or model directory.
   * Throws CheckpointError: TOKENIZER_MISSING, TOKENIZER_INVALID, TOKENIZER_UNSUPPORTED (another kind than Qwen3's
   * byte-level BPE, which is the only one that encoding as text comes is right for).
   */
  static async load(dir: string): Promise<Tokenizer> {
    const source = join(dir, "tokenizer.json");
    return new Tokenizer(parse(await read(source), source), source);
  }

  /**
   * Ids of content: a message or a response. Control tokens written out in it stay plain text; `<think>`,
   * `</think>`, `<tool_call>` and the like are tokens.
   */
  encode(text: string): number[] {
    return this.#content.encode(wellFormed(text), { add_special_tokens: false }).ids;
  }

  /** Ids of a whole templated conversation: every added token written out is a token. Never for strangers' text. */
  encodeTemplated(text: string): number[] {
    return this.#templated.encode(wellFormed(text), { add_special_tokens: false }).ids;
  }

  /** The id of a token written as in tokenizer.json, `<|im_end|>` for example. */
  tokenId(token: string): number | undefined {
    return this.#templated.token_to_id(token);
  }

  /** The bytes a token stands for; not always whole characters. Throws InputError (TOKEN_INVALID). */
  tokenBytes(id: number): Uint8Array {
    const bytes = this.#bytes[id];
    if (bytes === undefined) {
      throw new InputError(
        "TOKEN_INVALID",
        `${id} is not a token of this tokenizer: its ids are whole numbers from 0 to ${this.vocabSize - 1}. ` +
          "Ids of another model's tokenizer do not fit; give its text instead.",
      );
    }
    return bytes;
  }

  /** The text of ids; bytes that are not UTF-8 become U+FFFD. Throws InputError (TOKEN_INVALID). */
  decode(ids: readonly number[]): string {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(
      Buffer.concat(ids.map((id) => this.tokenBytes(id))),
    );
  }
}

/** The text with each lone surrogate as U+FFFD. */
export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}

async function read(source: string): Promise<string> {
  try {
    return await readFile(source, "utf8");
  } catch (cause) {
    throw new CheckpointError(
      "TOKENIZER_MISSING",
      `Cannot read ${source}. Copy tokenizer.json from the checkpoint the model was exported from.`,
      { cause },
    );
  }
}

function parse(json: string, source: string): TokenizerFile {
  let file: unknown;
  try {
    file = JSON.parse(json);
  } catch (cause) {
    throw new CheckpointError("TOKENIZER_INVALID", `${source} is not JSON. Fetch it again.`, { cause });
  }
  const parts = record(file);
  const model = record(parts.model);
  const expect = (holds: boolean, what: string): void => {
    if (holds) return;
    throw new CheckpointError(
      "TOKENIZER_UNSUPPORTED",
      `${source} is not a tokenizer of Qwen3's kind: ${what}. Use the tokenizer.json of Qwen3Guard-Stream.`,
    );
  };

  expect(
    model.type === "BPE" && typeof model.vocab === "object" && model.vocab !== null,
    "its model is not BPE",
  );
  expect(Array.isArray(model.merges) && model.merges.length > 0, "it has no merges");
  expect(!model.dropout && !model.ignore_merges && !model.byte_fallback, "it changes how BPE merges");
  expect(!model.continuing_subword_prefix && !model.end_of_word_suffix, "it marks parts of words");
  expect(record(parts.normalizer).type === "NFC", "it does not normalize to NFC");

  const steps = record(parts.pre_tokenizer).pretokenizers;
  const [split, byteLevel] = Array.isArray(steps) && steps.length === 2 ? steps.map(record) : [{}, {}];
  const pattern = record(split.pattern);
  expect(
    split.type === "Split" && pattern.Regex === QWEN_SPLIT && split.behavior === "Isolated" && !split.invert,
    "it splits text by another expression",
  );
  expect(
    byteLevel.type === "ByteLevel" && byteLevel.use_regex === false && !byteLevel.add_prefix_space,
    "it does not go on to bytes as they are",
  );

  const added = Array.isArray(parts.added_tokens) ? parts.added_tokens.map(record) : [];
  for (const token of added) {
    const plain = !token.lstrip && !token.rstrip && !token.single_word && token.normalized === false;
    expect(
      Number.isInteger(token.id) && typeof token.content === "string",
      "an added token has no id or text",
    );
    expect(token.content !== "" && plain, `the added token ${token.content} takes more than its own text`);
  }
  return {
    ...parts,
    added_tokens: added as unknown as AddedToken[],
    pre_tokenizer: {
      ...record(parts.pre_tokenizer),
      pretokenizers: [{ ...split, pattern: { Regex: SPELLED_OUT_SPLIT } }, byteLevel],
    },
    model: { ...model, merges: (model.merges as unknown[]).map(pair) } as TokenizerFile["model"],
  };
}

/** A merge rule: `["a", "b"]`, or `"a b"` in older files. */
function pair(rule: unknown): unknown {
  return typeof rule === "string" ? rule.split(" ", 2) : rule;
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
