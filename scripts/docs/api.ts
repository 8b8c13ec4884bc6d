// npm run docs: writes docs/api.md out of the docstrings, by way of the declarations in dist.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Declaration, exportsOf, find, prose } from "./declarations.js";

const at = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

const ENTRIES: [name: string, file: string][] = [
  ["qwen3guard-stream", at("dist/index.d.ts")],
  ["qwen3guard-stream/ai-sdk", at("dist/adapters/ai-sdk.d.ts")],
];
const GROUPS: [title: string, belongs: (declaration: Declaration) => boolean][] = [
  ["Functions", ({ kind }) => kind === "function"],
  ["Classes", ({ kind, text }) => kind === "class" && !/ extends (Guard)?Error /.test(text)],
  [
    "Errors",
    ({ kind, name, text }) =>
      kind === "class" && (name === "GuardError" || / extends (Guard)?Error /.test(text)),
  ],
  ["Constants", ({ kind }) => kind === "const"],
  ["Types", ({ kind }) => kind === "interface" || kind === "type"],
];
const INTRODUCTION = `# API

Everything that the package exports, out of its docstrings (\`npm run docs\`). How to go about it is in the
[README](../README.md) and in [Put it in front of your model](protect.md).
`;

/** The page. */
export function apiPage(): string {
  const parts = [INTRODUCTION];
  for (const [entry, file] of ENTRIES) {
    const exported = exportsOf(file);
    parts.push(`## \`${entry}\``);
    for (const [title, belongs] of GROUPS) {
      const those = exported.filter(([first]) => belongs(first));
      if (those.length > 0) parts.push(`### ${title}`, ...those.flatMap(section));
    }
    const named = namedBy(exported);
    if (named.length > 0) parts.push("### Types that these name", ...named.flatMap(section));
  }
  return `${parts.join("\n\n")}\n`;
}

function section(declarations: Declaration[]): string[] {
  const [{ name, kind }] = declarations;
  const parts = [`#### ${name}`];
  if (kind === "class") parts.push(...ofClass(declarations[0]));
  else if (kind === "function")
    parts.push(code(declarations.map(signature).join("\n")), ...docs(declarations.at(-1) as Declaration));
  else parts.push(...docs(declarations[0]), code(signature(declarations[0])));
  return parts;
}

/** With a docstring of an overload's own where the last has none. */
function docs({ doc, name, file }: Declaration): string[] {
  const own =
    doc ||
    find(name, file)
      ?.map((other) => other.doc)
      .find(Boolean);
  return own ? [text(own)] : [];
}

function signature({ text: declaration }: Declaration): string {
  return declaration.replace(/^export /, "").replace(/^declare /, "");
}

/** Each of its members by itself; not how it is made, which the package does. */
function ofClass({ doc, text: declaration }: Declaration): string[] {
  const [head, ...lines] = declaration.split("\n");
  const parts = doc ? [text(doc)] : [];
  if (/ extends /.test(head)) parts.push(code(head.replace(/^export (declare )?/, "").replace(/ \{.*/, "")));
  for (let i = 0, memberDoc = ""; i < lines.length; i++) {
    const start = i;
    if (lines[i].startsWith("    /**")) {
      while (!lines[i].endsWith("*/")) i++;
      memberDoc = prose(lines.slice(start, i + 1));
      continue;
    }
    while (i < lines.length - 1 && !/^ {4}\S.*;$/.test(lines[i])) i++;
    const member = lines
      .slice(start, i + 1)
      .join("\n")
      .replace(/^ {4}/gm, "");
    if (!/^(#private|private |constructor\(|\})/.test(member) && member.trim() !== "") {
      parts.push(code(member), ...(memberDoc ? [text(memberDoc)] : []));
    }
    memberDoc = "";
  }
  return parts;
}

/** Interfaces and types that what is shown names, and that are not exported themselves. */
function namedBy(exported: Declaration[][]): Declaration[][] {
  const known = new Set(ENTRIES.flatMap(([, file]) => exportsOf(file).map(([{ name }]) => name)));
  const found: Declaration[][] = [];
  const queue = exported.flat();
  for (let declaration = queue.shift(); declaration; declaration = queue.shift()) {
    const shown = declaration.text
      .replace(/\/\*[\s\S]*?\*\//g, "")
      .replace(/^ +(#private|private |constructor\().*$/gm, "");
    for (const name of new Set(shown.match(/\b[A-Z]\w+/g))) {
      const those = known.has(name) ? null : find(name, declaration.file);
      if (!those || !["interface", "type"].includes(those[0].kind)) continue;
      known.add(name);
      found.push(those);
      queue.push(...those);
    }
  }
  return found.sort(([a], [b]) => a.name.localeCompare(b.name));
}

/** A docstring as Markdown: its tags become a list. */
function text(doc: string): string {
  const [before, ...tags] = doc.split(/^@/m);
  const items = tags.map((tag) => {
    const [, kind, rest] = /^(\w+)\s*([\s\S]*)/.exec(tag.trim().replace(/\n\s*/g, " ")) as RegExpExecArray;
    if (kind === "param") return `* ${rest.replace(/^([\w.]+) ?/, "`$1`: ")}`;
    if (kind === "throws") return `* throws ${rest.replace(/^\{(\w+)\} ?/, "`$1` ")}`;
    return `* ${kind} ${rest}`;
  });
  return [before.trim(), items.join("\n")].filter(Boolean).join("\n\n");
}

function code(source: string): string {
  return `\`\`\`ts\n${source}\n\`\`\``;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(at("docs/api.md"), apiPage());
