import { PassThrough } from "node:stream";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createTerminal } from "../../src/cli/terminal.js";

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
