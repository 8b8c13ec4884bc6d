import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { beforeAll, expect, test } from "vitest";
import { type DatasetRecord, readRecords } from "../../src/evaluation/records.js";
import { temporaryFolder } from "../support/model.js";

let dir: string;
beforeAll(async () => {
  dir = await temporaryFolder();
});

async function read(content: string | Uint8Array, name = "data"): Promise<DatasetRecord[]> {
  const path = join(dir, name);
  await writeFile(path, content);
  const records = [];
  for await (const record of readRecords(path)) records.push(record);
  return records;
}

const TWO = [
  { line: 1, value: { a: "你好" } },
  { line: 2, value: { a: 2 } },
];

test.each<[string, string]>([
  ["lines", '{"a":"你好"}\n{"a":2}\n'],
  ["lines without an end", '{"a":"你好"}\n{"a":2}'],
  ["lines of Windows", '{"a":"你好"}\r\n{"a":2}\r\n'],
  ["a byte order mark", '\ufeff{"a":"你好"}\n{"a":2}\n'],
  ["an array", '[{"a":"你好"},{"a":2}]'],
  ["an array after blank lines", '\n \r\n[{"a":"你好"},{"a":2}]'],
  ["an array over several lines", '\ufeff[\n  {"a":"你好"},\n\n  {"a":2}\n]\n'],
])("%s, plain and gzipped", async (_, text) => {
  expect(await read(text)).toEqual(TWO);
  expect(await read(gzipSync(text))).toEqual(TWO);
});

test("lines longer than a chunk of the file", async () => {
  const long = "x".repeat(300_000);
  expect(await read(`{"a":"${long}"}\n{"a":2}\n`)).toEqual([{ line: 1, value: { a: long } }, TWO[1]]);
});

test("blank lines are no rows, and keep the count right", async () => {
  expect(await read('\n{"a":1}\n \t\n\n{"a":2}\n\n')).toEqual([
    { line: 2, value: { a: 1 } },
    { line: 5, value: { a: 2 } },
  ]);
});

test("what is no JSON is named with its line, and the next line is read", async () => {
  expect(await read('{"a":1}\n{"a":\n"x\n{"a":4}\n')).toEqual([
    { line: 1, value: { a: 1 } },
    { line: 2, problem: "not JSON" },
    { line: 3, problem: "not JSON" },
    { line: 4, value: { a: 4 } },
  ]);
});

test("text that is not UTF-8 is not quietly mended", async () => {
  const latin1 = Buffer.concat([Buffer.from('{"a":"caf'), Buffer.of(0xe9), Buffer.from('"}\n{"a":2}\n')]);
  expect(await read(latin1)).toEqual([{ line: 1, problem: "not UTF-8" }, TWO[1]]);
});

test("an empty file has no rows", async () => {
  expect(await read("")).toEqual([]);
});

test("errors", async () => {
  await expect(read('[{"a":1},')).rejects.toMatchObject({ code: "DATASET_INVALID" });
  const whole = gzipSync('{"a":1}\n'.repeat(1000));
  await expect(read(whole.subarray(0, whole.length - 12))).rejects.toMatchObject({ code: "DATASET_INVALID" });
  const none = readRecords(join(dir, "none.jsonl"));
  await expect(none.next()).rejects.toMatchObject({ code: "DATASET_UNREADABLE" });
  await expect(readRecords(dir).next()).rejects.toMatchObject({ code: "DATASET_UNREADABLE" });
});
