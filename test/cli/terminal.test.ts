import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { createTerminal, visible, visibleLine } from "../../src/cli/terminal.js";

beforeEach(() => {
  for (const name of ["NO_COLOR", "FORCE_COLOR"]) vi.stubEnv(name, undefined);
  vi.stubEnv("TERM", "xterm");
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllEnvs();
});

function stream(isTTY: boolean): { stream: NodeJS.WriteStream; text(): string } {
  const through = new PassThrough() as unknown as NodeJS.WriteStream & PassThrough;
  let text = "";
  through.on("data", (chunk) => {
    text += chunk;
  });
  Object.assign(through, {
    isTTY,
    columns: 100,
    cursorTo: () => {},
    clearLine: () => {},
    moveCursor: () => {},
  });
  return { stream: through, text: () => text };
}

test.each<[boolean, Record<string, string>, boolean]>([
  [true, {}, true],
  [false, {}, false],
  [true, { TERM: "dumb" }, false],
  [true, { NO_COLOR: "1" }, false],
  [true, { NO_COLOR: "" }, true],
  [false, { FORCE_COLOR: "1" }, true],
  [true, { FORCE_COLOR: "0" }, false],
  [false, { FORCE_COLOR: "1", NO_COLOR: "1" }, false],
])("colour: screen %s, environment %o → %s", (isTTY, env, colored) => {
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
  const { colors } = createTerminal(stream(isTTY).stream);
  expect(colors.red("x") !== "x").toBe(colored);
});

test("on a screen: a bar with amounts", () => {
  const screen = stream(true);
  const progress = createTerminal(screen.stream).progress("model", 1_200_000_000, "bytes");
  progress.update(600_000_000);
  progress.stop();
  expect(screen.text()).toMatch(/model .*50%.*600 of 1200 MB/);
});

test("in a pipe: a line at most every few seconds, nothing for what is quick", () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  const pipe = stream(false);
  const progress = createTerminal(pipe.stream).progress("layers", 28, "tensors");
  progress.update(1);
  vi.advanceTimersByTime(2000);
  progress.update(2);
  expect(pipe.text()).toBe("");
  vi.advanceTimersByTime(4000);
  for (let done = 7; done < 14; done++) progress.update(done);
  progress.stop();
  expect(pipe.text()).toBe("layers: 25% (7 of 28 tensors, 1.2/s, 18 s left)\n");
});

describe("text of strangers", () => {
  test.each([
    ["a window title", "a\x1b]0;title\x07b", "a\\x1b]0;title\\x07b"],
    ["C1 controls and DEL", "\x9b2J \x7f \x85", "\\x9b2J \\x7f \\x85"],
    ["backspace and a lone carriage return", "safe\b\b\rno", "safe\\x08\\x08\\x0dno"],
    ["a null", "a\0b", "a\\x00b"],
    ["turned text", "\u202eabc\u2066\u200f", "\\u202eabc\\u2066\\u200f"],
    ["zero width", "b\u200bo\ufeffm\u00adb\u2060", "b\\u200bo\\ufeffm\\xadb\\u2060"],
    ["joiners inside Latin words", "bo\u200dm\u200cb", "bo\\u200dm\\u200cb"],
    ["selectors that hide bytes", "a\ufe01\u{e0101}", "a\\ufe01\\u{e0101}"],
    ["tags", "\u{e0041}", "\\u{e0041}"],
    ["line separators", "\u2028\u2029", "\\u2028\\u2029"],
    ["a lone surrogate", "\ud800", "\\ud800"],
  ])("%s can be seen", (_name, text, seen) => {
    expect(visible(text)).toBe(seen);
  });

  test.each(["two\nlines\r\nand a\ttab", "naïve 注意 👍🏽 👨‍👩‍👧 ❤️ 1️⃣", "می‌خواهم क्‍ष", "葛\u{e0100}"])(
    "%j stays as it is",
    (text) => {
      expect(visible(text)).toBe(text);
    },
  );

  test("a joiner belongs to what was shown before it", () => {
    expect(visible("\u200d👩", "👨")).toBe("\u200d👩");
    expect(visible("\u200d👩", "x")).toBe("\\u200d👩");
  });

  test("a name takes one line", () => {
    expect(visibleLine("Safe\n\nresponse\tSafe\r\n")).toBe("Safe\\x0a\\x0aresponse\\x09Safe\\x0d\\x0a");
  });

  test("a bar's label is a name", () => {
    const screen = stream(true);
    const progress = createTerminal(screen.stream).progress("model\x1b[2J\n", 10, "bytes");
    progress.stop();
    expect(screen.text()).toContain("model\\x1b[2J\\x0a");
  });
});
