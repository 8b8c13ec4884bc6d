import { PassThrough, Readable } from "node:stream";
import { afterAll, beforeAll, expect, test } from "vitest";
import { InputError, NumericError } from "../../src/errors.js";
import { type Guard, loadGuard } from "../../src/guard.js";
import { type ScoreOptions, scoreLines } from "../../src/scoring/score.js";

let guard: Guard;
beforeAll(async () => {
  guard = await loadGuard({ maxStreams: 2 });
});
afterAll(() => guard.close());

const OPTIONS: ScoreOptions = { field: "found", maxLine: 1 << 20 };

async function scored(judge: Pick<Guard, "classify" | "maxStreams">, lines: string[], options = OPTIONS) {
  const written: string[] = [];
  const source = Readable.from([Buffer.from(lines.join("\n"))]);
  const totals = await scoreLines(judge as Guard, source, async (line) => void written.push(line), options);
  return { totals, written };
}

/** A guard that answers when it is told to. */
function scripted(maxStreams: number) {
  const asked: { prompt: string; answer: () => void; fail: (error: Error) => void }[] = [];
  const judge = {
    maxStreams,
    classify: ({ messages }: { messages: readonly { content: string }[] }) =>
      new Promise((resolve, reject) => {
        const prompt = messages[0].content;
        asked.push({ prompt, answer: () => resolve({ risk: "Safe", prompt }), fail: reject });
      }),
  };
  return { asked, judge: judge as unknown as Guard };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const row = (prompt: string) => `{"prompt":"${prompt}"}\n`;

test("each line has what guard.classify finds of its conversation, whatever stands before it", async () => {
  const answers = ["You are a stupid, ugly loser.", "Knead the dough.", "Knead the dough and let it rest."];
  const rows = answers.flatMap((response) => [{ prompt: "Hi", response }, { prompt: response }]);
  const lines = [...rows, ...rows].map((line) => JSON.stringify(line));
  const { written, totals } = await scored(guard, lines);
  for (const [i, line] of written.entries()) {
    const { prompt, response } = rows[i % rows.length];
    const messages = [{ role: "user", content: prompt }];
    if (response) messages.push({ role: "assistant", content: response });
    // What had been read before is no part of a row: it depends on others.
    const { reusedTokens: _, ...found } = await guard.classify({ messages, cacheKey: crypto.randomUUID() });
    expect(JSON.parse(line)).toEqual({ ...rows[i % rows.length], found });
  }
  expect(written).toHaveLength(12);
  expect(totals).toMatchObject({ lines: 12, errors: 0, firstError: null });
});

test("a blank line stays blank, a line that cannot be judged has its error, and the rest their verdicts", async () => {
  const long = "word ".repeat(guard.maxPromptTokens + 10);
  const { written, totals } = await scored(guard, [
    row("Hi").trim(),
    "",
    "nope",
    JSON.stringify({ prompt: long }),
    JSON.stringify({ messages: [{ role: "martian", content: "Hi" }] }),
    row("Ho").trim(),
  ]);
  const found = written.map((line) => (line === "\n" ? null : JSON.parse(line).found));
  expect(found.map((one) => one?.risk ?? one?.error.code ?? null)).toEqual([
    "Safe",
    null,
    "LINE_INVALID",
    "PROMPT_TOO_LONG",
    "MESSAGES_INVALID",
    "Safe",
  ]);
  expect(totals).toEqual({ lines: 6, risks: new Map([["Safe", 2]]), errors: 3, firstError: 3 });
});

test("a blank line goes on byte for byte, whatever it is blank of", async () => {
  const blank = ["", " ", "\t \t", "  \r"];
  const { written, totals } = await scored(guard, [row("Hi").trim(), ...blank, row("Ho").trim()]);
  expect(written.slice(1, -1)).toEqual(blank.map((line) => `${line}\n`));
  expect(totals).toMatchObject({ lines: 6, errors: 0 });
});

test("a line longer than the guard's context is judged in windows", async () => {
  const { written, totals } = await scored(guard, [
    JSON.stringify({ prompt: "A word or two. ".repeat(guard.maxTokens) }),
  ]);
  expect(JSON.parse(written[0]).found).toMatchObject({ risk: "Safe", category: null });
  expect(totals).toMatchObject({ lines: 1, errors: 0 });
});

test("a verdict is written while the next line is still to come", async () => {
  const source = new PassThrough();
  const written: string[] = [];
  const done = scoreLines(guard, source, async (line) => void written.push(line), OPTIONS);
  for (const count of [1, 2, 3]) {
    source.write(row("Hi"));
    while (written.length < count) await turn();
  }
  source.end();
  expect(await done).toMatchObject({ lines: 3 });
});

test("lines come out in their order, whichever is judged first", async () => {
  const { asked, judge } = scripted(2);
  const done = scored(
    judge,
    [row("a"), row("b"), row("c")].map((line) => line.trim()),
  );
  while (asked.length < 3) await turn();
  for (const i of [2, 1, 0]) asked[i].answer();
  expect((await done).written.map((line) => JSON.parse(line).prompt)).toEqual(["a", "b", "c"]);
});

test("no more lines are read than are judged, and none while nobody takes what is written", async () => {
  const { asked, judge } = scripted(2);
  let read = 0;
  const source = Readable.from(
    (function* () {
      for (; read < 100; read++) yield Buffer.from(row(String(read)));
    })(),
    { highWaterMark: 1 },
  );
  let take = () => {};
  const done = scoreLines(judge, source, () => new Promise((resolve) => (take = resolve)), OPTIONS);
  for (let i = 0; i < 50; i++) await turn();
  expect(asked).toHaveLength(3);
  for (const { answer } of asked) answer();
  for (let i = 0; i < 50; i++) await turn();
  expect(asked).toHaveLength(3);
  expect(read).toBeLessThan(10);
  const drain = setInterval(() => {
    take();
    for (const { answer } of asked) answer();
  });
  expect(await done).toMatchObject({ lines: 100 });
  clearInterval(drain);
});

test("a guard that fails ends it, though the next line never comes; what was judged before is written", async () => {
  const { asked, judge } = scripted(4);
  const source = new PassThrough();
  const written: string[] = [];
  const done = scoreLines(judge, source, async (line) => void written.push(line), OPTIONS);
  const failed = expect(done).rejects.toMatchObject({ code: "LOGITS_NOT_FINITE" });
  source.write(row("a") + row("b") + row("c"));
  while (asked.length < 3) await turn();
  asked[2].answer();
  asked[1].fail(new NumericError("LOGITS_NOT_FINITE", "Not finite."));
  asked[0].answer();
  await failed;
  expect(written.map((line) => JSON.parse(line).prompt)).toEqual(["a"]);
  expect(source.destroyed).toBe(true);
});

test("what is wrong with a conversation alone is its line's error", async () => {
  const { asked, judge } = scripted(1);
  const done = scored(judge, [row("a").trim()]);
  while (asked.length < 1) await turn();
  asked[0].fail(new InputError("EMPTY_RESPONSE", "Nothing to judge."));
  expect(JSON.parse((await done).written[0]).found).toEqual({
    error: { code: "EMPTY_RESPONSE", message: "Nothing to judge." },
  });
});

test("a source that breaks off is an error, not an end", async () => {
  const source = Readable.from(
    (async function* () {
      yield Buffer.from(row("Hi"));
      throw new Error("broken off");
    })(),
  );
  const written: string[] = [];
  await expect(scoreLines(guard, source, async (line) => void written.push(line), OPTIONS)).rejects.toThrow(
    "broken off",
  );
  expect(written).toHaveLength(1);
});
