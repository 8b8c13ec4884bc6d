import { CheckpointError } from "../errors.js";
import { fileProblem, readText } from "../files/regular-file.js";
import { parseJson, record } from "../validation/json.js";
import { quoted } from "../validation/quoted.js";
import { isWritten } from "./bpe/byte-alphabet.js";
import { QWEN_SPLIT } from "./bpe/pre-tokenizer.js";

/** Files beside the weights that decide what the model says: text → ids. Their absence is the exporter's to judge. */
export const TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];
/** Qwen3's has 11 MB. */
const LARGEST_FILE = 32 << 20;
/** Qwen3 adds 26. Each is looked for at each character. */
const MOST_ADDED = 1024;
const LONGEST_ADDED = 256;

interface AddedToken {
  id: number;
  content: string;
  special: boolean;
}

/** What encoding needs of a tokenizer.json; all else about it is as in Qwen3's. */
export interface TokenizerFile {
  /** Token in the byte alphabet → id, added tokens left out. */
  tokens: Map<string, number>;
  /** Pairs of tokens that merge, by rank. */
  merges: [string, string][];
  added: AddedToken[];
}

/**
 * Reads a tokenizer.json.
 * Throws CheckpointError: TOKENIZER_MISSING, TOKENIZER_INVALID, TOKENIZER_UNSUPPORTED.
 */
export async function readTokenizerFile(source: string): Promise<TokenizerFile> {
  return parse(await read(source), source);
}

async function read(source: string): Promise<string> {
  try {
    return await readText(source, LARGEST_FILE);
  } catch (cause) {
    throw new CheckpointError(
      "TOKENIZER_MISSING",
      `${source} cannot be read (${fileProblem(cause)}). Copy tokenizer.json from the checkpoint the model was exported from.`,
      { cause },
    );
  }
}

function parse(json: string, source: string): TokenizerFile {
  let file: unknown;
  try {
    file = parseJson(json);
  } catch (cause) {
    throw new CheckpointError("TOKENIZER_INVALID", `${source} is not JSON. Fetch it again.`, { cause });
  }
  const parts = record(file);
  const model = record(parts.model);
  const expect: Expect = (holds, what) => {
    if (holds) return;
    throw new CheckpointError(
      "TOKENIZER_UNSUPPORTED",
      `${source} is not a tokenizer of Qwen3's kind: ${what}. Use the tokenizer.json of Qwen3Guard-Stream.`,
    );
  };
  expectModel(model, expect);
  expectSteps(parts, expect);
  const added = addedOf(parts, expect);
  const tokens = tokensOf(model, new Set(added.map(({ content }) => content)), expect);
  return { tokens, merges: mergesOf(model, expect), added };
}

/** Throws where something does not hold. */
type Expect = (holds: boolean, what: string) => void;
type Fields = Record<string, unknown>;

function expectModel(model: Fields, expect: Expect): void {
  expect(
    model.type === "BPE" && typeof model.vocab === "object" && model.vocab !== null,
    "its model is not BPE",
  );
  expect(Array.isArray(model.merges) && model.merges.length > 0, "it has no merges");
  expect(!model.dropout && !model.ignore_merges && !model.byte_fallback, "it changes how BPE merges");
  expect(!model.continuing_subword_prefix && !model.end_of_word_suffix, "it marks parts of words");
}

/** What becomes of a text before BPE. */
function expectSteps(parts: Fields, expect: Expect): void {
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
}

function addedOf(parts: Fields, expect: Expect): AddedToken[] {
  const added = Array.isArray(parts.added_tokens) ? parts.added_tokens.map(record) : [];
  expect(added.length <= MOST_ADDED, `it adds ${added.length} tokens, more than ${MOST_ADDED}`);
  for (const token of added) {
    const plain = !token.lstrip && !token.rstrip && !token.single_word && token.normalized === false;
    expect(isId(token.id) && typeof token.content === "string", "an added token has no id or text");
    const { length } = token.content as string;
    expect(length > 0 && plain, `the added token ${quoted(token.content)} takes more than its own text`);
    expect(length <= LONGEST_ADDED, `the added token ${quoted(token.content)} is too long`);
  }
  return added.map((token) => ({ ...token, special: token.special === true })) as AddedToken[];
}

function tokensOf(model: Fields, added: ReadonlySet<string>, expect: Expect): Map<string, number> {
  const tokens = new Map<string, number>();
  const vocabulary = model.vocab as Fields;
  // Object.entries takes twice as long for 150,000 of them.
  for (const token in vocabulary) {
    if (added.has(token)) continue;
    const id = vocabulary[token];
    if (!isId(id) || !isWritten(token)) expect(false, `its token ${quoted(token)} is not bytes with an id`);
    tokens.set(token, id as number);
  }
  return tokens;
}

function mergesOf(model: Fields, expect: Expect): [string, string][] {
  // A rule is ["a", "b"], in older files "a b".
  const merges = model.merges as unknown[];
  for (let rank = 0; rank < merges.length; rank++) {
    const rule = merges[rank];
    if (typeof rule === "string") merges[rank] = rule.split(" ");
    if (!isPair(merges[rank])) expect(false, "a merge is not of two tokens");
  }
  return merges as [string, string][];
}

function isPair(rule: unknown): boolean {
  return Array.isArray(rule) && rule.length === 2;
}

/** Ids fit a table in memory; Qwen3 has 151,669. */
function isId(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < 1 << 20;
}
