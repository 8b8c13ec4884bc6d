import { createReadStream } from "node:fs";
import { createGunzip } from "node:zlib";
import { InputError } from "../errors.js";
import { fileProblem, openRegular } from "../files/regular-file.js";
import { isBlank, type Line, readLines } from "../scoring/lines.js";

/** One record of a dataset file, not yet looked at: JSON, or what is wrong with it. */
export type DatasetRecord = { line: number } & ({ value: unknown } | { problem: string });

const NEWLINE = 0x0a;
const OPENING_BRACKET = 0x5b;
const GZIP_MAGIC = [0x1f, 0x8b];

/**
 * Reads a dataset file: JSON lines, a line at a time, or one JSON array (held in memory); either may be gzipped.
 * `line` counts from 1: the line, or in an array the element. Blank lines are no records.
 *
 * @throws {InputError} DATASET_UNREADABLE, DATASET_INVALID (broken gzip data, an array that is not JSON)
 */
export async function* readRecords(path: string): AsyncGenerator<DatasetRecord> {
  const lines = readLines(readBytes(path));
  let line = 0;
  let first = true;
  for await (const { bytes } of lines) {
    line++;
    if (isBlank(bytes)) continue;
    if (first && bytes.find((byte) => byte > 0x20) === OPENING_BRACKET) {
      yield* readArray(path, bytes, lines);
      return;
    }
    first = false;
    yield { line, ...parse(bytes) };
  }
}

async function* readArray(
  path: string,
  firstLine: Buffer,
  rest: AsyncIterable<Line>,
): AsyncGenerator<DatasetRecord> {
  const parts = [firstLine];
  for await (const { bytes } of rest) parts.push(bytes);
  const whole = parse(Buffer.concat(parts.flatMap((part) => [part, Buffer.of(NEWLINE)])));
  if ("problem" in whole || !Array.isArray(whole.value)) {
    const problem = "problem" in whole ? whole.problem : "no array";
    throw new InputError(
      "DATASET_INVALID",
      `${path} begins like a JSON array, but is ${problem}. Write one array of rows, or a row a line.`,
    );
  }
  for (const [index, value] of whole.value.entries()) yield { line: index + 1, value };
}

function parse(bytes: Buffer): { value: unknown } | { problem: string } {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return { problem: "not UTF-8" };
  }
  try {
    return { value: JSON.parse(text) };
  } catch {
    return { problem: "not JSON" };
  }
}

async function* readBytes(path: string): AsyncGenerator<Buffer> {
  try {
    const zipped = await isGzip(path);
    const file = createReadStream(path);
    if (!zipped) yield* file;
    else {
      const unpacked = createGunzip();
      file.on("error", (error) => unpacked.destroy(error));
      yield* file.pipe(unpacked);
    }
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    // zlib's codes begin with Z_; a file that ends early gives Z_BUF_ERROR.
    if (code?.startsWith("Z_")) {
      throw new InputError(
        "DATASET_INVALID",
        `${path} is damaged: ${message}. Fetch it again, or unpack what is left of it.`,
        { cause },
      );
    }
    throw new InputError(
      "DATASET_UNREADABLE",
      `${path} cannot be read: ${fileProblem(cause)}. Check its path.`,
      {
        cause,
      },
    );
  }
}

async function isGzip(path: string): Promise<boolean> {
  // Of a pipe what is read here would be missing later.
  const file = await openRegular(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(GZIP_MAGIC.length), 0, GZIP_MAGIC.length, 0);
    return bytesRead === GZIP_MAGIC.length && GZIP_MAGIC.every((byte, i) => buffer[i] === byte);
  } finally {
    await file.close();
  }
}
