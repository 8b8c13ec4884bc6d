import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError, InputError } from "../errors.js";
import { AddedTokens } from "./added-tokens.js";
import { isWritten } from "./byte-alphabet.js";
import { Merges } from "./merges.js";
import { normalize } from "./normalization.js";
import { Pieces, QWEN_SPLIT } from "./pieces.js";
import { Vocabulary } from "./vocabulary.js";

interface AddedToken {
  id: number;
  content: string;
  special: boolean;
}

interface TokenizerFile {
  tokens: Map<string, number>;
  merges: string[][];
  added: AddedToken[];
}

/**
 * One checkpoint's tokenizer: text ↔ ids. The same machinery encodes text at once and as it comes
 * (`IncrementalEncoder`); its time grows with the text's length, whatever the text. A lone surrogate counts as
 * U+FFFD, as it does for TextEncoder.
 */
export class Tokenizer {
  /** Highest id + 1. */
  readonly vocabSize: number;
  readonly merges: Merges;
  /** The added tokens that count in content too: those that are not control tokens, `<think>` and the like. */
  readonly contentTokens: AddedTokens;
  /** Control tokens, by their text: `<|im_start|>` and the like. They count in templates alone. */
  readonly controlTokens: ReadonlyMap<string, number>;

  readonly #vocabulary: Vocabulary;
  readonly #addedTokens: AddedTokens;
  readonly #addedIds: ReadonlyMap<string, number>;

  private constructor(file: TokenizerFile, source: string) {
    const added = (special: boolean): Map<string, number> =>
      new Map(
        file.added.filter((token) => token.special === special).map(({ content, id }) => [content, id]),
      );
    this.controlTokens = added(true);
    this.contentTokens = new AddedTokens(added(false));
    this.#addedIds = new Map([...added(false), ...this.controlTokens]);
    this.#addedTokens = new AddedTokens(this.#addedIds);
    this.merges = new Merges(file.tokens, file.merges, source);
    this.#vocabulary = new Vocabulary(file.tokens, this.#addedIds);
    this.vocabSize = this.#vocabulary.size;
  }

  /**
   * Reads `tokenizer.json` of a checkpoint or model directory.
   * Throws CheckpointError: TOKENIZER_MISSING, TOKENIZER_INVALID, TOKENIZER_UNSUPPORTED (another kind than Qwen3's
   * byte-level BPE).
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
    return this.#encode(text, this.contentTokens);
  }

  /** Ids of a whole templated conversation: every added token written out is a token. Never for strangers' text. */
  encodeTemplated(text: string): number[] {
    return this.#encode(text, this.#addedTokens);
  }

  /** The id of an added token, `<|im_end|>` for example. */
  tokenId(token: string): number | undefined {
    return this.#addedIds.get(token);
  }

  /**
   * The bytes a token stands for; not always whole characters. They are the tokenizer's own: copy before changing
   * them. Throws InputError (TOKEN_INVALID).
   */
  tokenBytes(id: number): Uint8Array {
    const bytes = this.#vocabulary.bytesOf(id);
    if (bytes !== null) return bytes;
    throw new InputError(
      "TOKEN_INVALID",
      `${id} is not a token of this tokenizer: its ids are whole numbers from 0 to ${this.vocabSize - 1}. ` +
        "Ids of another model's tokenizer do not fit; give its text instead.",
    );
  }

  /** The text of ids; bytes that are not UTF-8 become U+FFFD. Throws InputError (TOKEN_INVALID). */
  decode(ids: readonly number[]): string {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(
      Buffer.concat(ids.map((id) => this.tokenBytes(id))),
    );
  }

  #encode(text: string, added: AddedTokens): number[] {
    const pieces = new Pieces(this.merges);
    added.split(
      wellFormed(text),
      true,
      (plain) => pieces.feed(normalize(plain)),
      (token) => pieces.interrupt(token),
    );
    return pieces.stack.toArray();
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
    expect(isId(token.id) && typeof token.content === "string", "an added token has no id or text");
    expect(token.content !== "" && plain, `the added token ${token.content} takes more than its own text`);
  }
  const tokens = new Map(Object.entries(record(model.vocab))) as TokenizerFile["tokens"];
  for (const { content } of added) tokens.delete(content as string);
  for (const [token, id] of tokens) {
    if (!isId(id) || !isWritten(token)) expect(false, `its token "${token}" is not bytes with an id`);
  }
  return {
    tokens,
    // A rule is ["a", "b"], in older files "a b".
    merges: (model.merges as unknown[]).map((rule) =>
      typeof rule === "string" ? rule.split(" ", 2) : rule,
    ) as string[][],
    added: added.map((token) => ({ ...token, special: token.special === true })) as AddedToken[],
  };
}

/** Ids fit a table in memory; Qwen3 has 151,669. */
function isId(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < 1 << 24;
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
