// What the compiler's declarations say, statement by statement: tsc writes each at the beginning of a line, with its
// docstring before it. TypeScript 7 has no API to ask yet.
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";

const STATEMENT = /^(?:export )?(?:declare )?(?:abstract )?(class|interface|type|function|const) (\w+)/;
const REEXPORT = /^export (?:type )?\{([^}]*)\} from "([^"]+)";/gm;
const IMPORT = /^import (?:type )?\{([^}]*)\} from "(\.[^"]+)";/gm;

export interface Declaration {
  name: string;
  kind: string;
  doc: string;
  text: string;
  file: string;
}

interface File {
  /** Its own, by name: several where a function has overloads. */
  declared: Map<string, Declaration[]>;
  /** The files that other names come from. */
  from: Map<string, string>;
}

const files = new Map<string, File>();

function read(path: string): File {
  let file = files.get(path);
  if (!file) {
    const source = readFileSync(path, "utf8");
    file = { declared: declarations(source, path), from: names(source, path, [REEXPORT, IMPORT]) };
    files.set(path, file);
  }
  return file;
}

function declarations(source: string, file: string): Map<string, Declaration[]> {
  const declared = new Map<string, Declaration[]>();
  const lines = source.split("\n");
  for (let at = 0, doc = ""; at < lines.length; at++) {
    if (lines[at].startsWith("/**")) {
      const start = at;
      while (!lines[at].endsWith("*/")) at++;
      doc = prose(lines.slice(start, at + 1));
      continue;
    }
    const [, kind, name] = STATEMENT.exec(lines[at]) ?? [];
    if (kind) {
      const start = at;
      while (!isEnd(lines[at])) at++;
      const text = lines.slice(start, at + 1).join("\n");
      declared.set(name, [...(declared.get(name) ?? []), { name, kind, doc, text, file }]);
    }
    doc = "";
  }
  return declared;
}

function isEnd(line: string): boolean {
  return /^\S.*(;|\})$/.test(line) || line === "}" || line === "};";
}

function names(source: string, file: string, patterns: RegExp[]): Map<string, string> {
  const from = new Map<string, string>();
  for (const pattern of patterns) {
    for (const [, list, target] of source.matchAll(pattern)) {
      for (const name of list.split(",").map((item) => item.replace(/\btype\b/, "").trim())) {
        if (name) from.set(name, resolve(dirname(file), target.replace(/\.js$/, ".d.ts")));
      }
    }
  }
  return from;
}

/** What an entry of the package exports, in its order. */
export function exportsOf(entry: string): Declaration[][] {
  const source = readFileSync(entry, "utf8");
  const exported = [...names(source, entry, [REEXPORT]).keys()];
  for (const [name, [{ text }]] of read(entry).declared) if (text.startsWith("export")) exported.push(name);
  return exported.map((name) => find(name, entry) ?? []);
}

/** A name's declarations, as a file knows it. */
export function find(name: string, file: string): Declaration[] | null {
  const { declared, from } = read(file);
  const elsewhere = from.get(name);
  return declared.get(name) ?? (elsewhere ? find(name, elsewhere) : null);
}

/** A docstring's text. */
export function prose(lines: string[]): string {
  return lines
    .join("\n")
    .replace(/^\s*\/\*\* ?/, "")
    .replace(/\s*\*\/\s*$/, "")
    .replace(/^\s*\* ?/gm, "")
    .trim();
}
