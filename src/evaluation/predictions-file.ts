import { createReadStream } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { GuardError, InputError, StorageError } from "../errors.js";
import { writablePlace } from "../files/regular-file.js";
import { mendOf } from "../files/write-fault.js";
import type { Prediction, Run } from "./prediction.js";
import type { Row } from "./row.js";

/** The origin comes first, so that a torn line still shows whose it is. */
const OWN_LINE = '{"qwen3guard":{';

/**
 * Predictions as JSON lines, in the dataset's order. Rows are appended as they are judged; what an earlier run of the
 * same evaluation wrote is read back, and a last line that it could not finish is cut off.
 */
export class PredictionsFile {
  readonly path: string;
  readonly #file: FileHandle;
  readonly #digests = new Map<number, string>();

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  /**
   * Opens a file to append to, or makes one.
   *
   * @param onPrediction called with every prediction that is there already
   * @throws {InputError} OUT_MISMATCH (the file is another evaluation's, or no predictions at all), OUT_DAMAGED
   * @throws {StorageError} OUT_UNWRITABLE
   */
  static async open(
    path: string,
    run: Run,
    onPrediction: (prediction: Prediction) => void,
  ): Promise<PredictionsFile> {
    // What is no file might never end, and nobody could go on from it.
    const file = await writablePlace(path)
      .then((place) => open(place, "a+"))
      .catch((cause) => {
        const message = `${path} cannot be written: ${cause.message}. ${mendOf(cause)}`;
        throw new StorageError("OUT_UNWRITABLE", message, { cause });
      });
    const predictions = new PredictionsFile(path, file);
    try {
      await predictions.#readBack(run, onPrediction);
      return predictions;
    } catch (error) {
      await file.close();
      if (error instanceof GuardError) throw error;
      const cause = error as Error;
      throw new StorageError(
        "OUT_UNWRITABLE",
        `${path} cannot be read back: ${cause.message}. ${mendOf(cause)}`,
        {
          cause,
        },
      );
    }
  }

  /** Rows that are in the file. */
  get size(): number {
    return this.#digests.size;
  }

  /**
   * Whether a row of the dataset is in the file already.
   * @throws {InputError} OUT_MISMATCH: another row was judged at its place
   */
  has({ line, digest }: Row): boolean {
    const known = this.#digests.get(line);
    if (known === undefined) return false;
    if (known !== digest) throw this.#mismatch(`its row ${line} is not the dataset's`);
    return true;
  }

  /** @throws {InputError} OUT_MISMATCH: the file holds rows that the dataset does not. */
  checkRows(known: number): void {
    if (known !== this.size) {
      throw this.#mismatch(`${this.size - known} of its ${this.size} rows are not in the dataset`);
    }
  }

  /** @throws {StorageError} OUT_UNWRITABLE */
  async append(prediction: Prediction): Promise<void> {
    const { qwen3guard: origin, ...fields } = prediction;
    try {
      await this.#file.appendFile(
        `{"qwen3guard":${JSON.stringify(origin)},${JSON.stringify(fields).slice(1)}\n`,
      );
    } catch (cause) {
      throw new StorageError(
        "OUT_UNWRITABLE",
        `${this.path} cannot be written on: ${(cause as Error).message}. ${mendOf(cause)} What it holds stays; run again to go on.`,
        { cause },
      );
    }
    this.#digests.set(origin.line, origin.digest);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #readBack(run: Run, onPrediction: (prediction: Prediction) => void): Promise<void> {
    let number = 0;
    let whole = 0;
    for await (const { text, complete } of readLines(this.path)) {
      number++;
      if (!text.startsWith(OWN_LINE) && (complete || !OWN_LINE.startsWith(text))) {
        throw this.#mismatch(`line ${number} is no prediction`);
      }
      if (!complete) {
        await this.#file.truncate(whole);
        return;
      }
      whole += Buffer.byteLength(text) + 1;
      const prediction = this.#parse(text, number);
      this.#check(prediction, run, number);
      onPrediction(prediction);
    }
  }

  #parse(text: string, number: number): Prediction {
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new InputError(
        "OUT_DAMAGED",
        `Line ${number} of ${this.path} is damaged. Delete that line and run again: its row is judged anew.`,
        { cause },
      );
    }
  }

  #check({ qwen3guard: origin }: Prediction, run: Run, number: number): void {
    for (const field of ["type", "reasoning", "model", "dtype"] as const) {
      if (origin.run?.[field] === run[field]) continue;
      throw this.#mismatch(
        `line ${number} was made with ${field} ${origin.run?.[field]}, this run has ${run[field]}`,
      );
    }
    if (this.#digests.has(origin.line)) throw this.#mismatch(`row ${origin.line} is in it twice`);
    this.#digests.set(origin.line, origin.digest);
  }

  #mismatch(what: string): InputError {
    return new InputError(
      "OUT_MISMATCH",
      `${this.path} holds something else: ${what}. Name another --out file, or delete this one to start anew.`,
    );
  }
}

async function* readLines(path: string): AsyncGenerator<{ text: string; complete: boolean }> {
  let rest = "";
  for await (const chunk of createReadStream(path, { encoding: "utf8" })) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() as string;
    for (const text of lines) yield { text, complete: true };
  }
  if (rest !== "") yield { text: rest, complete: false };
}
