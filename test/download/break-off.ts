import type { ServerResponse } from "node:http";
import { setTimeout } from "node:timers/promises";
import { fileSize } from "../../src/download/hub-cache.js";

/**
 * Sends the beginning of a file, and breaks the connection once what a client has of it has grown to a size, or another has
 * fetched it: what a client has read and not yet been given when its connection ends is lost to it.
 */
export async function breakOff(
  response: ServerResponse,
  beginning: Uint8Array,
  { path, size }: { path: string; size: number },
): Promise<void> {
  response.flushHeaders();
  response.write(beginning);
  const has = async (name: string) => (await fileSize(name)) >= size;
  while (!response.destroyed && !(await has(`${path}.incomplete`)) && !(await has(path))) await setTimeout(5);
  response.destroy();
}
