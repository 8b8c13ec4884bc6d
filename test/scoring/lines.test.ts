import { expect, test } from "vitest";
import { readLines } from "../../src/scoring/lines.js";

async function linesOf(chunks: string[], longest?: number) {
  const found: [text: string, length: number][] = [];
  const source = (async function* () {
    for (const chunk of chunks) yield Buffer.from(chunk, "latin1");
  })();
  for await (const { bytes, length } of readLines(source, longest))
    found.push([bytes.toString("latin1"), length]);
  return found;
}

test("lines come out whole wherever their stream is cut", async () => {
  const text = "\xef\xbb\xbfone\n\ntwo\r\n\xef\xbb\xbfthree";
  const whole = [
    ["one", 3],
    ["", 0],
    ["two\r", 4],
    ["\xef\xbb\xbfthree", 8],
  ];
  expect(await linesOf([text])).toEqual(whole);
  expect(await linesOf(text.split(""))).toEqual(whole);
  expect(await linesOf([`${text}\n`])).toEqual(whole);
});

test("of a line that is too long its beginning is kept, and how long it was; the next line is whole", async () => {
  expect(await linesOf(["aaaa", "aaaa\nb", "b\ncccccc"], 3)).toEqual([
    ["aaa", 8],
    ["bb", 2],
    ["ccc", 6],
  ]);
});

test("no stream, no lines", async () => {
  expect(await linesOf([])).toEqual([]);
  expect(await linesOf([""])).toEqual([]);
});
