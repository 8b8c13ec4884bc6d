import { once } from "node:events";
import { constants, createReadStream, openSync } from "node:fs";
import { stat } from "node:fs/promises";
import { Socket } from "node:net";
import type { Readable } from "node:stream";
import { isatty, ReadStream } from "node:tty";

/**
 * What a name stands for, as it comes: a file, a device, a pipe. Can be destroyed at any time: a pipe that nobody writes to, and a
 * terminal, are not waited for in one of Node's few threads, which could not be called off it and would hold up the process's end.
 *
 * @throws an Error, of the operating system's `code` but for a folder, which can be opened and only then not be read
 */
export async function openInput(path: string): Promise<Readable> {
  const found = await stat(path);
  if (found.isDirectory()) throw new Error("it is a folder");
  if (!found.isFIFO() && !found.isCharacterDevice()) return opened(createReadStream(path));
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  if (found.isFIFO()) return new Socket({ fd, readable: true, writable: false });
  return isatty(fd) ? new ReadStream(fd) : createReadStream(path, { fd });
}

async function opened(stream: Readable): Promise<Readable> {
  await once(stream, "open");
  return stream;
}
