import { write } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const writeBytes = promisify(write) as unknown as (
  fd: number,
  bytes: Buffer,
) => Promise<{ bytesWritten: number }>;

export const STANDARD_OUTPUT = 1;
/** Milliseconds until a full pipe is tried again. */
const FULL_PIPE_MS = 20;

/**
 * Writes bytes, or some of them, where the file stands. Unlike a stream's, these writes never block the event loop, a full
 * pipe's neither.
 *
 * @returns how many, at least one
 * @throws an Error with the operating system's `code`
 */
export async function writeSome(fd: number, bytes: Buffer): Promise<number> {
  for (;;) {
    try {
      const { bytesWritten } = await writeBytes(fd, bytes);
      if (bytesWritten > 0) return bytesWritten;
      throw new Error("nothing was written");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      await sleep(FULL_PIPE_MS);
    }
  }
}

let lines = Promise.resolve();

/** Writes a line to standard output, after those before. @throws as `writeSome`; after that no line is written any more */
export function writeLine(line: string): Promise<void> {
  lines = lines.then(async () => {
    let bytes = Buffer.from(`${line}\n`);
    while (bytes.length > 0) bytes = bytes.subarray(await writeSome(STANDARD_OUTPUT, bytes));
  });
  return lines;
}
