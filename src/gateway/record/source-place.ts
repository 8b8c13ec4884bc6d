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
  try {
    const path = file.startsWith("file:") ? fileURLToPath(file) : file;
    const map = new SourceMap(JSON.parse(readFileSync(`${path}.map`, "utf8")));
    const entry = map.findEntry(line - 1, column - 1);
    return "originalSource" in entry ? [entry.originalSource, entry.originalLine + 1] : null;
  } catch {
    // It has none, or none that can be read.
    return null;
  }
}
