import { join } from "node:path";
import { InputError } from "../errors.js";
import { AddedTokens } from "./added-tokens.js";
import { Merges } from "./bpe/merges.js";
import { PreTokenizer } from "./bpe/pre-tokenizer.js";
import { Vocabulary } from "./bpe/vocabulary.js";
import { NfcStream } from "./normalization/nfc-stream.js";
import { readTokenizerFile, type TokenizerFile } from "./tokenizer-file.js";

/**
 * One checkpoint's tokenizer: text ↔ ids. The same machinery encodes text at once and as it comes
 * (`IncrementalEncoder`); its time grows with the text's length, whatever the text. A lone surrogate counts as
 * U+FFFD, as it does for TextEncoder.
 */
export class Tokenizer {
  /** Highest id + 1. */
  readonly vocabSize: number;
  /** Bytes of the longest token: a text of so many bytes in NFC takes no fewer tokens than it holds this length. */
  readonly longest: number;
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
    this.longest = this.#vocabulary.longest;
  }

  /**
   * Reads `tokenizer.json` of a checkpoint or model directory.
   * Throws CheckpointError: TOKENIZER_MISSING, TOKENIZER_INVALID, TOKENIZER_UNSUPPORTED (another kind than Qwen3's
   * byte-level BPE).
   */
  static async load(dir: string): Promise<Tokenizer> {
    const source = join(dir, "tokenizer.json");
    return new Tokenizer(await readTokenizerFile(source), source);
  }

  /**
   * Ids of content: a message or a response. Control tokens written out in it stay plain text; `<think>`,
   * `</think>`, `<tool_call>` and the like are tokens. Throws InputError (MARKS_TOO_MANY).
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
    const pieces = new PreTokenizer(this.merges);
    const composition = new NfcStream();
    added.split(
      wellFormed(text),
      true,
      (plain) => pieces.feed(composition.push(plain) + composition.close()),
      (token) => pieces.interrupt(token),
    );
    return pieces.stack.toArray();
  }
}

/** The text with each lone surrogate as U+FFFD. */
export function wellFormed(text: string): string {
  // Known to Node 20, and not yet to TypeScript's ES2023.
  return (text as unknown as { toWellFormed(): string }).toWellFormed();
}
