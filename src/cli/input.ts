import { fstatSync } from "node:fs";
import { InputError } from "../errors.js";
import { jsonlText } from "../gate/inputs/jsonl.js";
import { ollamaText } from "../gate/inputs/ollama.js";
import { sseText } from "../gate/inputs/sse.js";
import type { InputKind } from "./input-kinds.js";

/** UTF-16 units, or ids. */
const PIECE = 1024;

/** More digits than any id has. */
const LONGEST_ID = 16;

const READERS: Record<InputKind, () => AsyncIterable<string | number[]>> = {
  text: readText,
  ids: readIds,
  sse: () => sseText(readText()),
  jsonl: () => jsonlText(readText()),
  ollama: () => ollamaText(readText()),
};

/**
 * The response on standard input, as text or as ids. Long chunks come in pieces, so that a verdict is not waited for
 * longer than it must be.
 *
 * @throws {InputError} TOKEN_INVALID, INPUT_UNREADABLE, and what the reader of the kind throws
 */
export async function* readInput(kind: InputKind): AsyncGenerator<string | number[]> {
  for await (const chunk of READERS[kind]()) {
    for (let at = 0; at < chunk.length; at += PIECE) yield chunk.slice(at, at + PIECE);
  }
}

/** Standard input as it comes, until it ends or is destroyed. What breaks off is no end. @throws {InputError} INPUT_UNREADABLE */
async function* readText(): AsyncGenerator<string> {
  if (isFolder()) throw unreadable(new Error("it is a folder"));
  // The stream decoder holds a character's bytes back until all of them are there.
  process.stdin.setEncoding("utf8");
  try {
    yield* process.stdin;
  } catch (error) {
    if (process.stdin.errored) throw unreadable(process.stdin.errored);
    if (!process.stdin.destroyed) throw error;
  }
}

/** Node makes nothing at all of a folder. */
export function isFolder(): boolean {
  try {
    return fstatSync(process.stdin.fd).isDirectory();
  } catch {
    return false;
  }
}

function unreadable(cause: Error): InputError {
  const message = `Standard input cannot be read to its end: ${cause.message}. What came of it is not all.`;
  return new InputError("INPUT_UNREADABLE", message, { cause });
}

async function* readIds(): AsyncGenerator<number[]> {
  let rest = "";
  for await (const chunk of readText()) {
    const words = (rest + chunk).split(/[\s,]+/);
    rest = words.pop() as string;
    const ids = words.filter(Boolean).map(parseId);
    if (ids.length > 0) yield ids;
    if (rest.length > LONGEST_ID) parseId(rest);
  }
  if (rest) yield [parseId(rest)];
}

function parseId(word: string): number {
  if (/^\d+$/.test(word) && word.length <= LONGEST_ID) return Number(word);
  const shown = word.length > LONGEST_ID ? `${word.slice(0, LONGEST_ID)}…` : word;
  throw new InputError(
    "TOKEN_INVALID",
    `"${shown}" on standard input is no token id. Write ids as whole numbers with spaces between, or use --input text.`,
  );
}
