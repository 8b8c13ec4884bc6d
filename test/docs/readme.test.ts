import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";

const read = (name: string) => readFile(new URL(`../../${name}`, import.meta.url), "utf8");
const levels = (text: string) =>
  [...text.replace(/```[\s\S]*?```/g, "").matchAll(/^(#+) /gm)].map(([, level]) => level);
const blocks = (text: string) => text.match(/```[\s\S]*?```/g);
const targets = (text: string) =>
  [...text.matchAll(/\]\(([^)]+)\)/g)]
    .map(([, target]) => target)
    .filter((target) => !target.startsWith("README"));
const rows = (text: string) => text.match(/^\|.*\|$/gm)?.length;

test("the Chinese README has the English one's headings, code, tables and links", async () => {
  const [english, chinese] = await Promise.all([read("README.md"), read("README.zh-CN.md")]);
  expect(levels(chinese)).toEqual(levels(english));
  expect(blocks(chinese)).toEqual(blocks(english));
  expect(rows(chinese)).toBe(rows(english));
  expect(targets(chinese)).toEqual(targets(english));
});
