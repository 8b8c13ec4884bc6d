import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** What a path in a document can begin with: folders of the repository, or rooms of `src/`. */
const FOLDERS = new Set([...foldersOf("."), ...foldersOf("src")]);

const pages = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "*.md"], {
  cwd: ROOT,
  encoding: "utf8",
})
  .trim()
  .split("\n")
  .filter((page) => existsSync(join(ROOT, page)));

describe.each(pages)("%s", (page) => {
  const text = readFileSync(join(ROOT, page), "utf8");

  test("names no file or folder that is not there", () => {
    expect(pathsIn(text).filter((path) => !isThere(path, page))).toEqual([]);
  });

  test("links to no page, and no part of one, that is not there", () => {
    const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link);
    expect(links.filter((link) => !/^\w+:/.test(link) && !leadsSomewhere(link, page))).toEqual([]);
  });
});

function foldersOf(path: string): string[] {
  return readdirSync(join(ROOT, path), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !/^\.|^node_modules$|^dist$/.test(entry.name))
    .map(({ name }) => name);
}

/** The paths among what stands in backticks; those in braces one by one. */
function pathsIn(text: string): string[] {
  return [...text.matchAll(/`([^`\n]+)`/g)]
    .flatMap(([, code]) => code.split(/\s+/))
    .filter((word) => /^[\w.@-]+(\/[\w.@{},-]+)+\/?$/.test(word) && FOLDERS.has(word.split("/")[0]))
    .flatMap((word) => {
      const [, before, list, after] = /^(.*)\{(.*)\}(.*)$/.exec(word) ?? [];
      return list === undefined ? [word] : list.split(",").map((one) => before + one + after);
    });
}

/** A path is one of the repository, of `src/` or of the page's folder, or a test's name without its ending. */
function isThere(path: string, page: string): boolean {
  const candidates = [path, `src/${path}`, join(dirname(page), path), `test/${path}.test.ts`];
  return candidates.some((candidate) => existsSync(join(ROOT, candidate)));
}

function leadsSomewhere(link: string, page: string): boolean {
  const [path, part] = link.split("#");
  const target = path === "" ? join(ROOT, page) : join(ROOT, dirname(page), path);
  if (!existsSync(target)) return false;
  return part === undefined || anchorsOf(readFileSync(target, "utf8")).includes(part);
}

/** As GitHub makes them of headings. */
function anchorsOf(text: string): string[] {
  const headings = [...text.replace(/^```[\s\S]*?^```/gm, "").matchAll(/^#+ (.*)$/gm)];
  const seen = new Map<string, number>();
  return headings.map(([, heading]) => {
    const anchor = heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M} _-]/gu, "")
      .replaceAll(" ", "-");
    const count = seen.get(anchor) ?? 0;
    seen.set(anchor, count + 1);
    return count === 0 ? anchor : `${anchor}-${count}`;
  });
}
