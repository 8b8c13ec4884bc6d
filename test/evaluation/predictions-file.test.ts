import { appendFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { createPrediction, type Prediction, type Run } from "../../src/evaluation/prediction.js";
import { PredictionsFile } from "../../src/evaluation/predictions-file.js";
import { parseRow, type Row } from "../../src/evaluation/row.js";
import { temporaryFolder } from "../support/model.js";

const RUN: Run = { type: "response", reasoning: false, model: "abc", dtype: "fp32" };
const JUDGEMENTS = {
  pred_risk_levels: [0, 1],
  pred_categories: ["Violent", "PII"],
  pred_risk_prob: [0.5, 0.75],
  input_ids: [5, 6, 7],
  split_idx_eval: 1,
};

let path: string;
beforeEach(async () => {
  path = join(await temporaryFolder(), "predictions.jsonl");
});

function row(line: number, fields: object = {}): Row {
  const value = { prompt: `question ${line} 你好`, response: "a", response_label: "unsafe", ...fields };
  const parsed = parseRow(value, line, "response");
  if (!("row" in parsed)) throw new Error("no row");
  return parsed.row;
}

async function write(...rows: Row[]): Promise<void> {
  const file = await PredictionsFile.open(path, RUN, () => {});
  for (const each of rows) await file.append(createPrediction(each, RUN, JUDGEMENTS));
  await file.close();
}

/** Lines of the rows that are read back. */
async function reopen(run = RUN): Promise<number[]> {
  const seen: number[] = [];
  const file = await PredictionsFile.open(path, run, ({ qwen3guard }) => seen.push(qwen3guard.line));
  await file.close();
  return seen;
}

async function lines(): Promise<Prediction[]> {
  return (await readFile(path, "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
}

test("a line is the row, its label as the official scorer wants it, and the judgements", async () => {
  await write(row(3, { id: 12 }));
  const { qwen3guard, ...fields } = (await lines())[0];
  expect(fields).toEqual({
    prompt: "question 3 你好",
    response: "a",
    response_label: "unsafe",
    id: 12,
    label: "Unsafe",
    ...JUDGEMENTS,
  });
  expect(qwen3guard).toEqual({ line: 3, digest: row(3, { id: 12 }).digest, run: RUN });
});

test("rows there already are read back and known", async () => {
  await write(row(1), row(4));
  const seen: number[] = [];
  const file = await PredictionsFile.open(path, RUN, ({ qwen3guard }) => seen.push(qwen3guard.line));
  expect(seen).toEqual([1, 4]);
  expect([1, 2, 4].map((line) => file.has(row(line)))).toEqual([true, false, true]);
  await file.append(createPrediction(row(2), RUN, JUDGEMENTS));
  await file.close();
  expect(await reopen()).toEqual([1, 4, 2]);
});

test("a row's own fields cannot hide whose line it is", async () => {
  await write(row(1, { 0: "number", qwen3guard: { line: 99 }, label: "x", pred_risk_levels: [2] }));
  expect(await reopen()).toEqual([1]);
  expect((await lines())[0]).toMatchObject({ label: "Unsafe", pred_risk_levels: [0, 1] });
});

describe("a torn last line", () => {
  test.each([
    ["one byte", 1],
    ["half of it", 0.5],
    ["all but the line break", -1],
    ["in the middle of the mark", 8],
  ])("%s: cut off, the rest stays", async (_, cut) => {
    await write(row(1), row(2));
    const whole = await readFile(path);
    const second = whole.indexOf("\n") + 1;
    const length = whole.length - second;
    const keep = cut < 0 ? length + cut : cut < 1 ? Math.floor(length * cut) : cut;
    await writeFile(path, whole.subarray(0, second + keep));
    expect(await reopen()).toEqual([1]);
    expect(await readFile(path)).toEqual(whole.subarray(0, second));
    await write(row(2));
    expect(await readFile(path)).toEqual(whole);
  });

  test("in the middle of a character", async () => {
    await write(row(1), row(2));
    const whole = await readFile(path);
    await writeFile(path, whole.subarray(0, whole.lastIndexOf("你") + 1));
    expect(await reopen()).toEqual([1]);
  });

  test("the only line", async () => {
    await write(row(1));
    const whole = await readFile(path);
    await writeFile(path, whole.subarray(0, 100));
    expect(await reopen()).toEqual([]);
    await write(row(1));
    expect(await readFile(path)).toEqual(whole);
  });
});

describe("refused, and left as it is", () => {
  test.each([
    ["other JSON lines", '{"prompt":"x"}\n'],
    ["a text without line breaks", "my thesis"],
    ["one line of JSON without a break", '{"prompt":"x"}'],
    ["blank lines", "\n\n"],
  ])("%s", async (_, content) => {
    await writeFile(path, content);
    await expect(reopen()).rejects.toMatchObject({ code: "OUT_MISMATCH" });
    expect(await readFile(path, "utf8")).toBe(content);
  });

  test.each<[keyof Run, Partial<Run>]>([
    ["type", { type: "prompt" }],
    ["reasoning", { reasoning: true }],
    ["model", { model: "xyz" }],
    ["dtype", { dtype: "int8" }],
  ])("predictions of another %s", async (field, other) => {
    await write(row(1));
    await expect(reopen({ ...RUN, ...other })).rejects.toMatchObject({
      code: "OUT_MISMATCH",
      message: expect.stringContaining(`with ${field}`),
    });
  });

  test("predictions of another dataset", async () => {
    await write(row(1), row(2));
    const file = await PredictionsFile.open(path, RUN, () => {});
    expect(() => file.has(row(2, { response: "other" }))).toThrow(
      expect.objectContaining({ code: "OUT_MISMATCH" }),
    );
    expect(() => file.checkRows(1)).toThrow(expect.objectContaining({ code: "OUT_MISMATCH" }));
    await file.close();
  });

  test("a row twice", async () => {
    await write(row(1));
    await appendFile(path, await readFile(path));
    await expect(reopen()).rejects.toMatchObject({ code: "OUT_MISMATCH" });
  });

  test("a damaged line that is not the last", async () => {
    await write(row(1), row(2));
    const text = await readFile(path, "utf8");
    await writeFile(path, text.replace('"input_ids":[', '"input_ids":'));
    await expect(reopen()).rejects.toMatchObject({
      code: "OUT_DAMAGED",
      message: expect.stringContaining("Line 1"),
    });
  });

  test.skipIf(process.platform === "win32")("a device, which would never end", async () => {
    path = "/dev/zero";
    await expect(reopen()).rejects.toMatchObject({
      code: "OUT_UNWRITABLE",
      message: expect.stringContaining("not a file"),
    });
  });

  test.skipIf(process.platform !== "linux")("a file that cannot be read back", async () => {
    path = "/proc/self/mem";
    await expect(reopen()).rejects.toMatchObject({
      code: "OUT_UNWRITABLE",
      message: expect.stringMatching(/cannot be (read back|written)/),
    });
  });

  test("a path that cannot be written", async () => {
    path = join(path, "none", "x.jsonl");
    await expect(reopen()).rejects.toMatchObject({
      code: "OUT_UNWRITABLE",
      message: expect.stringContaining("is not there: make it."),
    });
  });
});
