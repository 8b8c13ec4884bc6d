import { readFileSync } from "node:fs";
import { SourceMap } from "node:module";
import { fileURLToPath } from "node:url";

/**
 * Where in the code an error came up: file and line, of the source where the file that ran has a map. Of its message, which
 * may be anybody's, there is nothing in it.
 */
export function sourcePlace({ stack = "", message }: Error): string | null {
  const frame = /^\s+at .*?((?:file:\/\/)?[^\s()]+\.[jt]s):(\d+):(\d+)/m.exec(stack.slice(message.length));
  if (!frame) return null;
  const [, file, line, column] = frame;
  const mapped = mappedPlace(file, Number(line), Number(column));
  const [name, at] = mapped ?? [file, Number(line)];
  return `${name.split(/[\\/]/).at(-1)}:${at}`;
}

function mappedPlace(file: string, line: number, column: number): [source: string, line: number] | null {
  const entry = mapOf(file)?.findEntry(line - 1, column - 1);
  return entry && "originalSource" in entry ? [entry.originalSource, entry.originalLine + 1] : null;
}

/** By the file that ran, of which a program has a fixed number. null: it has none, or none that can be read. */
const maps = new Map<string, SourceMap | null>();

/** Read once: whoever finds a way to make errors must not have a file parsed for each. */
function mapOf(file: string): SourceMap | null {
  let map = maps.get(file);
  if (map === undefined) {
    map = readMap(file);
    maps.set(file, map);
  }
  return map;
}

function readMap(file: string): SourceMap | null {
  try {
    const path = file.startsWith("file:") ? fileURLToPath(file) : file;
    return new SourceMap(JSON.parse(readFileSync(`${path}.map`, "utf8")));
  } catch {
    return null;
  }
}
